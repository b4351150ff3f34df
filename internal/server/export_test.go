package server

import "net"

// TestingOnlyCrowd is what the listeners are wrapped in.
func TestingOnlyCrowd(l net.Listener, most, each int) net.Listener { return newCrowd(l, most, each) }
