//! A WebRTC broadcast server.
