package ocspserver_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"signet.example/signet/internal/testdb"
	"signet.example/signet/ocsp"
	"signet.example/signet/ocsp/ocspserver"
	"signet.example/signet/pki"
)

// TestGETAsItArrives: what clients and proxies do to a request in an address is undone.
func TestGETAsItArrives(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	collapse := func(text string) string {
		for strings.Contains(text, "//") {
			text = strings.ReplaceAll(text, "//", "/")
		}
		return text
	}
	// A request whose base64 has a plus sign, a slash, two slashes in a row and padding, but none of the slashes in the
	// serial number: there a guess would be another certificate's.
	var serial pki.Serial
	var der []byte
	issuer, err := ocsp.IssuerOf(s.one.cert)
	if err != nil {
		t.Fatal(err)
	}
	for fill := byte(0); ; fill++ { // hashes and serial numbers are those of fresh keys
		serial = s.closed.serial(uint64(fill % 16))
		request := ocsp.Request{Items: []ocsp.SingleRequest{{ID: issuer.CertID(crypto.SHA256, serial.Integer())}}}
		request.Nonce = append(bytes.Repeat([]byte{fill}, 3+int(fill)%5), 0x3f, 0xff, 0xf0, 0xfb, 0xef, 0xbe, 0xfb, 0xef, 1)
		request.Nonce = append(request.Nonce, make([]byte, fill%3)...)
		if der, err = request.Marshal(); err != nil {
			t.Fatal(err)
		}
		octets := serial.Integer()
		at := bytes.Index(der, octets)
		if text := encode(der); !strings.Contains(text[at*4/3:(at+len(octets))*4/3+1], "/") && strings.Contains(text, "+") && strings.Contains(text, "//") && strings.HasSuffix(text, "=") && len(text)-len(collapse(text)) <= 3 {
			break
		}
		if fill == 255 {
			t.Fatal("no request has all that")
		}
	}
	standard, safe := encode(der), base64.URLEncoding.EncodeToString(der)
	escaped := url.QueryEscape(standard)
	for name, text := range map[string]string{
		"standard, bare":               standard,
		"standard, percent-encoded":    escaped,
		"encoded in lower case":        strings.NewReplacer("%2B", "%2b", "%2F", "%2f", "%3D", "%3d").Replace(escaped),
		"only slashes encoded":         strings.ReplaceAll(standard, "/", "%2F"),
		"percent-encoded twice":        url.QueryEscape(escaped),
		"URL-safe":                     safe,
		"URL-safe without padding":     strings.TrimRight(safe, "="),
		"standard without padding":     strings.TrimRight(standard, "="),
		"encoded without padding":      url.QueryEscape(strings.TrimRight(standard, "=")),
		"plus signs as spaces":         strings.ReplaceAll(standard, "+", " "),
		"plus signs as encoded spaces": strings.ReplaceAll(escaped, "%2B", "%20"),
		"a slash in front":             "/" + standard,
		"encoded slash in front":       "%2F" + escaped,
		"three slashes in front":       "///" + escaped,
		"slashes collapsed":            collapse(standard),
		"slashes collapsed, unpadded":  strings.TrimRight(collapse(standard), "="),
	} {
		reply := s.responder.Answer(t.Context(), "GET", path(s.one)+"/"+text, nil)
		if outcome(t, reply) != ocsp.Successful {
			t.Errorf("%s: %q gave %x", name, text, reply.Body)
			continue
		}
		if s.verify(t, reply, s.one, serial).Status != pki.StatusGood {
			t.Errorf("%s: %q gave %+v", name, text, reply)
		}
	}
	for name, text := range map[string]string{
		"not base64":     "MEI*" + standard[4:],
		"cut":            standard[:len(standard)-8],
		"stray percent":  "%" + standard,
		"three times":    url.QueryEscape(url.QueryEscape(escaped)),
		"only slashes":   "////",
		"only padding":   "====",
		"with a query":   standard + "?x=y",
		"octets of zero": "AAAA",
	} {
		if got := outcome(t, s.responder.Answer(t.Context(), "GET", path(s.one)+"/"+text, nil)); got != ocsp.MalformedRequest {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// TestSlashesInHashes: where a proxy left out a slash of the issuer's own hashes, which are in every request, a guess
// that makes another issuer of it is not the last.
func TestSlashesInHashes(t *testing.T) {
	s := newSystem(t, testdb.SQLite(t), nil)
	serial, named := s.closed.serial(1), *s.one.cert
	for i := 0; ; i++ {
		named.RawSubject = fmt.Appendf(nil, "name %d", i)
		issuer, err := ocsp.IssuerOf(&named)
		if err != nil {
			t.Fatal(err)
		}
		request := ocsp.Request{Items: []ocsp.SingleRequest{{ID: issuer.CertID(crypto.SHA256, serial.Integer())}}}
		der, err := request.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		text := encode(der)
		before, after, found := strings.Cut(text, "//")
		earlier, between, alone := strings.Cut(before, "/")
		// Further ones in a row, of the key's hash or the serial, do not change with the name.
		if !found || !alone || strings.HasPrefix(after, "/") {
			continue
		}
		wrong, err := base64.StdEncoding.DecodeString(earlier + "//" + between + "/" + after)
		if _, fails := ocsp.ParseRequest(wrong); err != nil || fails != nil {
			continue
		}
		if err := s.responder.SetIssuers([]ocspserver.Issuer{{Certificate: &named}}); err != nil {
			t.Fatal(err)
		}
		reply := s.responder.Answer(t.Context(), "GET", path(s.one)+"/"+before+"/"+after, nil)
		response, err := ocsp.ParseResponse(reply.Body)
		if err != nil || len(response.Answers) != 1 || !issuer.Matches(response.Answers[0].ID) || response.Answers[0].Status != pki.StatusGood {
			t.Errorf("%s without a slash gave %+v, %v", text, response, err)
		}
		return
	}
}

// FuzzAnswer: whatever arrives is answered, without a panic, and never with good but for a certificate that is.
func FuzzAnswer(f *testing.F) {
	s := newSystem(f, testdb.SQLite(f), nil)
	good := s.closed.serial(1)
	der := requestFor(f, s.one, crypto.SHA1, nil, good)
	f.Add("GET", encode(der), []byte(nil))
	f.Add("POST", "", der)
	f.Add("HEAD", url.QueryEscape(url.QueryEscape(encode(der))), []byte(nil))
	f.Add("GET", "%25%32%46//=", []byte(nil))
	// What the corpus keeps must mean something with the keys of another run: the issuer's hashes are put in place.
	named, err := ocsp.ParseRequest(der)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, text string, body []byte) {
		target := path(s.one)
		if text != "" {
			target += "/" + text
		}
		reply := s.responder.Answer(t.Context(), method, target, body)
		if reply.Code == 200 {
			if _, err := ocsp.ParseResponse(reply.Body); err != nil {
				t.Fatalf("%s %q: reply does not parse: %v", method, text, err)
			}
		}
		request, err := ocsp.ParseRequest(body)
		if err != nil {
			return
		}
		for i := range request.Items {
			id := named.Items[0].ID
			id.Serial = request.Items[i].ID.Serial
			request.Items[i].ID = id
		}
		if body, err = request.Marshal(); err != nil {
			t.Fatal(err)
		}
		reply = s.responder.Answer(t.Context(), "POST", path(s.one), body)
		response, err := ocsp.ParseResponse(reply.Body)
		if err != nil {
			t.Fatalf("reply %+v: %v", reply, err)
		}
		for _, answer := range response.Answers {
			serial, ok := pki.SerialFromInteger(answer.ID.Serial)
			if position, dense := serial.Unmask(s.one.hash); answer.Status == pki.StatusGood && (!ok || !dense || serial != s.closed.at(position)) {
				t.Fatalf("good for %x", answer.ID.Serial)
			}
		}
	})
}
