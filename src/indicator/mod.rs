//! What is looked up: one normal form for everything an analyst may paste.
