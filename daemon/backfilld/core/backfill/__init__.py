"""One time span of one instrument: what to ask, what an answer says, what is missing still."""
