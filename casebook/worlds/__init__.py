"""What simulated worlds share: feeds with their faults, departures by a timetable."""
