"""Case 09: a shop recommends ten items a page, and learns from what it chose to show."""
