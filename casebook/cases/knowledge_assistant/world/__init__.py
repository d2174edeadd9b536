"""World of case 18: a firm, what it writes, who may read it, and the servers that hold it."""
