"""From a published zip to a day file."""
