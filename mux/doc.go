// Package mux matches responses with requests, over any session whose framing
// carries IDs (framing.Packet, framing.MuxLine), on every transport. Both sides of
// a session may send requests; responses may arrive in any order.
package mux
