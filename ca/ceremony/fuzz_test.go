package ceremony_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"signet.example/signet/ca/ceremony"
)

// FuzzRecord reads records that anybody may have written. What is accepted is a chain to the end: as many steps as lines, each with
// the digest of the one before it, what is attached with its own, and the digest that is answered is that of the last line; and
// its pages can be written.
func FuzzRecord(f *testing.F) {
	whole := recordOf(f, "begin", "program", "sign", "end")
	f.Add(whole)
	f.Add(recordOf(f, "begin", "broken"))
	f.Add(whole[:len(whole)-1])                                    // cut off
	f.Add(whole[bytes.IndexByte(whole, '\n')+1:])                  // without its first step
	f.Add(bytes.Replace(whole, []byte("Ada"), []byte("Eve"), 1))   // altered
	f.Add(bytes.Replace(whole, []byte("AQID"), []byte("AQIE"), 1)) // other octets
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"format":"signet ceremony 1","n":1,"previous":"` + strings.Repeat("0", 64) + `","at":"2026-01-01T00:00:00Z","step":"begin","text":""}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		steps, last, err := ceremony.TestingOnlyRead(text)
		if err != nil {
			return
		}
		lines := bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
		digest := sha256.Sum256(lines[len(lines)-1])
		if len(lines) != len(steps) || last != hex.EncodeToString(digest[:]) {
			t.Fatalf("%d lines, %d steps, digest %s", len(lines), len(steps), last)
		}
		for i, s := range steps {
			if before := sha256.Sum256(lines[max(i-1, 0)]); i > 0 && s.Previous != hex.EncodeToString(before[:]) {
				t.Fatalf("step %d does not follow", s.N)
			}
			for _, o := range s.Attached {
				if sum := sha256.Sum256(o.DER); o.SHA256 != hex.EncodeToString(sum[:]) {
					t.Fatalf("step %d: %s is not what its digest says", s.N, o.Name)
				}
			}
		}
		ceremony.Paper(steps, last)
		path := filepath.Join(t.TempDir(), "record.jsonl")
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ceremony.Verify(path); err != nil {
			t.Fatalf("it can be read, and not verified: %v", err)
		}
	})
}

// recordOf writes a record of some steps.
func recordOf(f *testing.F, names ...string) []byte {
	f.Helper()
	var text []byte
	previous := strings.Repeat("0", 64)
	for i, name := range names {
		octets := sha256.Sum256([]byte{1, 2, 3})
		s := ceremony.Step{N: i + 1, Previous: previous, Name: name, Text: "Ada did it", Facts: []ceremony.Fact{{Name: "present", Value: "Ada"}},
			Rules:    []ceremony.Rule{{Rule: "r", Outcome: "passed"}},
			Attached: []ceremony.Octets{{Name: "x", Type: ceremony.TypeTBSCertificate, SHA256: hex.EncodeToString(octets[:]), DER: []byte{1, 2, 3}}}}
		if i == 0 {
			s.Format = "signet ceremony 1"
		}
		line, err := json.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		digest := sha256.Sum256(line)
		previous, text = hex.EncodeToString(digest[:]), append(append(text, line...), '\n')
	}
	return text
}
