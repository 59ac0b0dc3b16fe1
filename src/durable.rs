//! Row 1: writing files so that they survive a power cut (to come)
