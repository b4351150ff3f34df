package deps_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"signet.example/signet/internal/deps"
)

// TestHouse holds the whole module to the rules.
func TestHouse(t *testing.T) {
	found, err := deps.Check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range found {
		t.Error(v)
	}
}

// TestViolations builds one small module per rule and demands that breaking the rule is found, and that the nearest
// allowed thing is not.
func TestViolations(t *testing.T) {
	const m = "signet.example/signet/"
	for _, tc := range []struct {
		name, file, source string
		want               string // part of the one violation; empty: none
	}{
		{"format imports domain", "crl/a.go", `package crl; import _ "` + m + `revocation"`, "crl may not import revocation"},
		{"format imports values", "crl/a.go", `package crl; import _ "` + m + `pki"`, ""},
		{"library imports the server", "handshake/a.go", `package handshake; import _ "` + m + `ca"`, "handshake may not import ca"},
		{"library imports formats", "handshake/a.go", `package handshake; import (_ "` + m + `crl"; _ "` + m + `handshake/fetch")`, ""},
		{"subpackage imports its parent", "handshake/wire/a.go", `package wire; import _ "` + m + `handshake"`, "handshake/wire may not import handshake"},
		{"issuance imports revocation", "ca/a.go", `package ca; import _ "` + m + `revocation"`, "ca may not import revocation"},
		{"revocation imports issuance", "revocation/a.go", `package revocation; import _ "` + m + `ca"`, "revocation may not import ca"},
		{"values import anything", "pki/a.go", `package pki; import _ "` + m + `crl"`, "pki may not import crl"},
		{"protobuf in the domain", "ca/a.go", `package ca; import _ "` + m + `api/signetv1"`, "ca may not import api/signetv1"},
		{"protobuf in the command", "cmd/signet/a.go", `package main; import _ "` + m + `api/signetv1"`, "cmd/signet may not import api/signetv1"},
		{"protobuf at its border", "api/rpc/a.go", `package rpc; import _ "` + m + `api/signetv1"`, ""},
		{"command imports everything", "cmd/signet/a.go", `package main; import (_ "` + m + `ca"; _ "` + m + `store/sqlite")`, ""},
		{"command imports test code", "cmd/signet/a.go", `package main; import _ "` + m + `internal/testport"`, "cmd/signet may not import internal/testport"},
		{"domain imports a database", "ca/a.go", `package ca; import _ "` + m + `store/sqlite"`, "ca may not import store/sqlite"},
		{"package nobody planned", "surprise/a.go", `package surprise; import _ "` + m + `ca"`, "surprise may not import ca"},
		{"external test imports anything", "crl/a_test.go", `package crl_test; import _ "` + m + `store/sqlite"`, ""},
		{"internal test keeps the rules", "crl/a_test.go", `package crl; import _ "` + m + `store/sqlite"`, "crl may not import store/sqlite"},
		{"internal test uses test support", "crl/a_test.go", `package crl; import _ "` + m + `internal/testport"`, ""},
		{"sql outside the stores", "revocation/a.go", `package revocation; import _ "database/sql"`, "SQL stays in store"},
		{"driver outside the stores", "revocation/a.go", `package revocation; import _ "github.com/jackc/pgx/v5/pgxpool"`, "SQL stays in store"},
		{"sql in a store", "store/sqlite/a.go", `package sqlite; import _ "database/sql"`, ""},
		{"http in the domain", "ca/a.go", `package ca; import _ "net/http"`, "ca may not import net/http"},
		{"http in a server half", "crl/crlserver/a.go", `package crlserver; import _ "net/http"`, ""},
		{"testing in the product", "ca/a.go", `package ca; import _ "testing"`, "ca may not import testing"},
		{"testing in test support", "store/storetest/a.go", `package storetest; import _ "testing"`, ""},
		{"wall clock in the domain", "ca/a.go", `package ca; import "time"; var t = time.Now()`, "reads the wall clock"},
		{"wall clock, disguised", "ca/a.go", `package ca; import "time"; var d = time.Since(time.Time{})`, "time.Since reads the wall clock"},
		{"wall clock as a default", "ca/a.go", `package ca; import "time"; var now = time.Now`, ""},
		{"wall clock at the root", "internal/server/a.go", `package server; import "time"; var t = time.Now()`, ""},
		{"name without meaning", "ca/util/a.go", `package util`, "says nothing about what it is for"},
		{"wide store", "ca/store.go", `package ca; type Store interface { A(); B(); C(); D(); E(); F(); G() }`, "interface Store has 7 methods"},
		{"wide store in parts", "ca/store.go", `package ca; type Store interface { Part; E(); F(); G() }; type Part interface { A(); B(); C(); D() }`, "interface Store has 7 methods"},
		{"narrow store in parts", "ca/store.go", `package ca; type Store interface { Part; F() }; type Part interface { A(); B(); C(); D(); E() }`, ""},
		{"narrow store", "ca/store.go", `package ca; type Store interface { A(); B(); C(); D(); E(); F() }`, ""},
		{"testdata is not code", "ca/testdata/a.go", `package ca; import _ "net/http"`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := deps.Check(fstest.MapFS{tc.file: {Data: []byte(tc.source)}})
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tc.want == "" && len(found) > 0:
				t.Errorf("found %v, want nothing", found)
			case tc.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), tc.want)):
				t.Errorf("found %v, want one violation with %q", found, tc.want)
			}
		})
	}
}

// TestUnreadable: a file that does not parse is an error, not a silent pass.
func TestUnreadable(t *testing.T) {
	if _, err := deps.Check(fstest.MapFS{"ca/a.go": {Data: []byte("package")}}); err == nil {
		t.Error("no error for a file that does not parse")
	}
}
