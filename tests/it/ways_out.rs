//! What is said when something is not there names what is wrong, and leads out: on the day it is read nobody has time to find out more.

mod kits;
mod secrets;
mod state;
mod stores;
