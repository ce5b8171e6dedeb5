"""Events with a schema: the one room that speaks to a schema registry."""
