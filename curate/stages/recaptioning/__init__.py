"""Plan, ask for and remember caption attempts: what the recaption stage is made of."""
