package main

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"text/tabwriter"

	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/handshake/wire"
	"signet.example/signet/pki"
)

// listFaults is the value of --misbehave that lists the faults.
const listFaults = "list"

// fault is one way to misbehave: on the wire, or in what a CA says.
type fault struct {
	Name   string `json:"name"`
	Kind   string `json:"kind"` // wire or status
	Does   string `json:"does"`
	Answer string `json:"answer"` // of a well-behaved client with --policy hard

	how  wire.Misbehaviour
	peer *handshaketest.Hostile // nil for a fault on the wire
}

// faults returns all faults.
func faults() []fault {
	var all []fault
	for _, how := range wire.Misbehaviours() {
		does, answer := how.Does()
		all = append(all, fault{Name: string(how), Kind: "wire", Does: does, Answer: answer, how: how})
	}
	for _, peer := range handshaketest.Corpus() {
		f := fault{Name: peer.Slug(), Kind: "status", Does: peer.Does, Answer: peer.Want.String(), peer: &peer}
		if peer.Turn != nil {
			f.Answer += ", " + peer.Later.String() + " after a first connection that it accepted"
		}
		all = append(all, f)
	}
	return all
}

func findFault(name string) (fault, error) {
	if name == "" {
		return fault{}, nil
	}
	for _, f := range faults() {
		if f.Name == name {
			return f, nil
		}
	}
	return fault{}, pki.Errorf(pki.KindInvalid, "misbehave", "there is no fault %.60q", name).
		WithHint("signet handshake serve --misbehave list shows all of them")
}

// showFaults is `serve --misbehave list`.
func (c *handshakeServeCmd) showFaults(a *app) error {
	all := faults()
	if a.json || c.Trace == "json" {
		tell := a.narrator("json")
		for _, f := range all {
			tell.object(f)
		}
		return nil
	}
	table := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FAULT\tWHAT IT DOES\tA GOOD CLIENT MUST (UNDER --policy hard)")
	for _, f := range all {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Name, f.Does, f.Answer)
	}
	return table.Flush()
}

// onlyCRL is the topology for a fault on the wire, which needs a CA of its own.
const onlyCRL = "root -> int -> leaf noaia"

// turn makes the fault that only a returning client sees.
func (h *host) turn() {
	if h.fault.peer != nil && h.fault.peer.Turn != nil {
		h.turned.Do(func() { h.fault.peer.Turn(h.authority) })
	}
}

// stage gives the host certificates from a small CA of its own, whose CRLs and responders run on loopback with the
// fault.
func (h *host) stage(f fault) error {
	drawing := onlyCRL
	if f.peer != nil {
		drawing = f.peer.Drawing
	}
	var err error
	if h.authority, err = handshaketest.Open(drawing); err != nil {
		return pki.Errorf(pki.KindInternal, "misbehave", "%w", err)
	}
	leaf, staple := h.authority.Cert("leaf"), []byte(nil)
	root := leaf.Root()
	if f.peer != nil {
		var trust *handshaketest.Cert
		leaf, trust, staple = f.peer.Stage(h.authority)
		root = trust.Root()
	}
	h.config.Certificates = []tls.Certificate{leaf.TLS(staple)}
	if err := os.WriteFile(h.RootFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw}), 0o644); err != nil {
		return fileError("write root", err)
	}
	return nil
}
