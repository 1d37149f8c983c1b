// Package mux makes requests and responses out of messages, over any session
// whose framing carries ids (framing.Packet, framing.MuxLine), over every
// transport. Both sides of a session may ask; answers may come in any order.
package mux
