package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"testing"

	xocsp "golang.org/x/crypto/ocsp"

	"signet.example/signet/ocsp"
)

var hashes = []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512}

func TestRequestRoundTrip(t *testing.T) {
	w := newWorld(t)
	for _, length := range []int{0, 1, 16, 32, 128} {
		request := new(ocsp.Request)
		for _, hash := range hashes {
			request.Items = append(request.Items, ocsp.SingleRequest{ID: certID(t, w.ca.cert, w.leaf.cert, hash)})
		}
		request.RequestorName = []byte{0x82, 1, 'x'}
		if length > 0 {
			request.Nonce = bytes.Repeat([]byte{byte(length)}, length)
		}
		der, err := request.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		got, err := ocsp.ParseRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		same := slices.EqualFunc(got.Items, request.Items, func(a, b ocsp.SingleRequest) bool { return a.ID.Equal(b.ID) && a.ID.Hash == b.ID.Hash })
		if !same || !bytes.Equal(got.Nonce, request.Nonce) || !bytes.Equal(got.RequestorName, request.RequestorName) || got.Signed {
			t.Errorf("nonce of %d: %+v came back as %+v", length, request, got)
		}
		again, err := got.Marshal()
		if err != nil || !bytes.Equal(again, der) {
			t.Errorf("nonce of %d: encoding what was read differs: %v", length, err)
		}
	}
}

// TestRequestAgainstOther writes what x/crypto/ocsp writes and reads what it writes.
func TestRequestAgainstOther(t *testing.T) {
	w := newWorld(t)
	for _, hash := range hashes {
		want, err := xocsp.CreateRequest(w.leaf.cert, w.ca.cert, &xocsp.RequestOptions{Hash: hash})
		if err != nil {
			t.Fatal(err)
		}
		id := certID(t, w.ca.cert, w.leaf.cert, hash)
		got, err := ocsp.NewRequest(id).Marshal()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x (%v), want %x", hash, got, err, want)
		}
		request, err := ocsp.ParseRequest(want)
		if err != nil || len(request.Items) != 1 || !request.Items[0].ID.Equal(id) {
			t.Errorf("%s: read as %+v, %v", hash, request, err)
		}
	}
}

// The shape of a request for encoding/asn1, so that malformed ones are not written by the codec under test.
type plainRequest struct {
	TBS struct {
		Version       int           `asn1:"explicit,tag:0,optional"`
		RequestorName asn1.RawValue `asn1:"optional"`
		List          []plainItem
		Extensions    []pkix.Extension `asn1:"explicit,tag:2,optional"`
	}
	Signature asn1.RawValue `asn1:"optional"`
}

type plainItem struct {
	ID struct {
		Algorithm         pkix.AlgorithmIdentifier
		NameHash, KeyHash []byte
		Serial            asn1.RawValue
	}
	Extensions []pkix.Extension `asn1:"explicit,tag:0,optional"`
}

func explicit(tag int, der []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: der}
}

func newPlainItem() plainItem {
	var item plainItem
	item.ID.Algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}, Parameters: asn1.NullRawValue}
	item.ID.NameHash, item.ID.KeyHash = make([]byte, 20), make([]byte, 20)
	item.ID.Serial = asn1.RawValue{Tag: asn1.TagInteger, Bytes: []byte{5}}
	return item
}

func nonceOf(length int) pkix.Extension {
	value, err := asn1.Marshal(make([]byte, length))
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, Value: value}
}

func TestParseRequest(t *testing.T) {
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte{5, 0}}
	critical := unknown
	critical.Critical = true
	signature, err := asn1.Marshal(struct {
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 3}}, asn1.BitString{Bytes: []byte{1}, BitLength: 8}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*plainRequest)
		ok     bool
	}{
		{"one certificate", func(*plainRequest) {}, true},
		{"as many as are read", func(r *plainRequest) {
			r.TBS.List = slices.Repeat(r.TBS.List, 100)
		}, true},
		{"a thousand", func(r *plainRequest) { r.TBS.List = slices.Repeat(r.TBS.List, 1000) }, false},
		{"none", func(r *plainRequest) { r.TBS.List = nil }, false},
		{"version 2", func(r *plainRequest) { r.TBS.Version = 1 }, false},
		{"requestor name", func(r *plainRequest) {
			r.TBS.RequestorName = explicit(1, append([]byte{0x82, 14}, "client.example"...))
		}, true},
		{"signed", func(r *plainRequest) { r.Signature = explicit(0, signature) }, true},
		{"signature of another shape", func(r *plainRequest) { r.Signature = explicit(0, signature[:len(signature)-2]) }, false},
		{"unknown hash", func(r *plainRequest) { r.TBS.List[0].ID.Algorithm.Algorithm = asn1.ObjectIdentifier{1, 2, 3} }, true},
		{"hash of the wrong length", func(r *plainRequest) { r.TBS.List[0].ID.NameHash = make([]byte, 19) }, false},
		{"negative serial", func(r *plainRequest) { r.TBS.List[0].ID.Serial.Bytes = []byte{0x80, 1} }, true},
		{"serial of no octets", func(r *plainRequest) { r.TBS.List[0].ID.Serial.Bytes = nil }, false},
		{"nonce of 0", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, nonceOf(0)) }, false},
		{"nonce of 1", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, nonceOf(1)) }, true},
		{"nonce of 128", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, nonceOf(128)) }, true},
		{"nonce of 129", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, nonceOf(129)) }, false},
		{"two nonces", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, nonceOf(32), nonceOf(32)) }, false},
		{"nonce not wrapped", func(r *plainRequest) {
			r.TBS.Extensions = []pkix.Extension{{Id: nonceOf(1).Id, Value: []byte{1, 2, 3}}}
		}, false},
		{"unknown extension", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, unknown) }, true},
		{"unknown critical extension", func(r *plainRequest) { r.TBS.Extensions = append(r.TBS.Extensions, critical) }, false},
		{"unknown extension of an item", func(r *plainRequest) { r.TBS.List[0].Extensions = []pkix.Extension{unknown} }, true},
		{"unknown critical extension of an item", func(r *plainRequest) { r.TBS.List[0].Extensions = []pkix.Extension{critical} }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r plainRequest
			r.TBS.List = []plainItem{newPlainItem()}
			c.change(&r)
			der, err := asn1.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			request, err := ocsp.ParseRequest(der)
			if (err == nil) != c.ok || err != nil && cause(err) != "malformed" {
				t.Fatalf("error %v, want success %v", err, c.ok)
			}
			if err == nil && request.Signed != (c.name == "signed") {
				t.Errorf("signed is %v", request.Signed)
			}
			for cut := range der {
				if _, err := ocsp.ParseRequest(der[:cut]); err == nil {
					t.Fatalf("a request cut to %d of %d octets parsed", cut, len(der))
				}
			}
		})
	}
	if _, err := ocsp.ParseRequest(make([]byte, ocsp.MaxRequest+1)); cause(err) != "malformed" {
		t.Errorf("too large: %v", err)
	}
}

func TestMarshalRefuses(t *testing.T) {
	w := newWorld(t)
	id := certID(t, w.ca.cert, w.leaf.cert, crypto.SHA1)
	for name, request := range map[string]*ocsp.Request{
		"no certificate": {},
		"too many":       {Items: make([]ocsp.SingleRequest, ocsp.MaxItems+1)},
		"empty nonce":    {Items: []ocsp.SingleRequest{{ID: id}}, Nonce: []byte{}},
		"long nonce":     {Items: []ocsp.SingleRequest{{ID: id}}, Nonce: make([]byte, 129)},
	} {
		if _, err := request.Marshal(); err == nil {
			t.Errorf("%s: was encoded", name)
		}
	}
}

func TestURL(t *testing.T) {
	w := newWorld(t)
	der, err := ocsp.NewRequest(certID(t, w.ca.cert, w.leaf.cert, crypto.SHA1)).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, responder := range []string{"http://ocsp.example/ocsp/0123", "http://ocsp.example/ocsp/0123/"} {
		address, get := ocsp.URL(responder, der)
		encoded, found := strings.CutPrefix(address, "http://ocsp.example/ocsp/0123/")
		if !get || !found || strings.ContainsAny(encoded, "+/=") {
			t.Fatalf("address %q, get %v", address, get)
		}
		text, err := url.PathUnescape(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := base64.StdEncoding.DecodeString(text); err != nil || !bytes.Equal(back, der) {
			t.Errorf("%q decodes to %x, %v", encoded, back, err)
		}
	}
	if address, get := ocsp.URL("http://ocsp.example/"+strings.Repeat("x", 250), der); get {
		t.Errorf("an address of %d octets is asked by GET (RFC 9919, Section 5: at most 255)", len(address))
	}
}
