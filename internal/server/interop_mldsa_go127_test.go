//go:build go1.27

package server_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"signet.example/signet/api/client"
	"signet.example/signet/ca/keys"
	"signet.example/signet/crl"
	"signet.example/signet/internal/installation"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// TestInteropMLDSA has Node, that is OpenSSL, judge what an authority of ML-DSA makes: certificates, requests, lists
// and OCSP responses by each parameter set, keys in files, and handshakes in both directions.
func TestInteropMLDSA(t *testing.T) {
	node := newNode(t)
	s := found(t, "sqlite:signet.db", func(c *installation.InitConfig) { c.RootKey, c.IssuingKey = keys.MLDSA87, keys.MLDSA65 })
	s.start(t)
	files := t.TempDir()
	stem := filepath.Join(files, "app")
	for _, args := range [][]string{
		{"csr", "localhost", "--key-algorithm", "ml-dsa-44", "--out", stem},
		{"issue", "--csr", stem + ".csr", "--profile", "server", "--out", stem},
	} {
		if status, said := s.run(t, args...); status != 0 {
			t.Fatalf("signet %s: %s", strings.Join(args, " "), said)
		}
	}
	chain := pemFile(t, stem+".pem")
	leaf, issuing := parsed(t, chain[0]), parsed(t, chain[1])
	root := parsed(t, pemFile(t, filepath.Join(s.dir, "root.pem"))[0])

	waiting, err := s.api.CreateIssuer(t.Context(), client.IssuerSpec{Label: "elsewhere", Subject: client.Subject{CommonName: "Elsewhere"}, Algorithm: "ml-dsa-87", BaseURL: "http://pki.example", Offline: true})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, _ := pem.Decode(waiting.CSRPEM)
	if _, err := s.api.Revoke(t.Context(), client.RevokeRequest{Certificate: leaf.Raw, Reason: pki.KeyCompromise, WaitPublished: true}); err != nil {
		t.Fatal(err)
	}
	answer := askOCSP(t, leaf, issuing)
	if answer.Status != pki.StatusRevoked {
		t.Errorf("OCSP says %s", answer.Status)
	}

	signed := []signedBy{
		signedObject(t, "certificate by ML-DSA-65", leaf.Raw, issuing.RawSubjectPublicKeyInfo),
		signedObject(t, "certificate by ML-DSA-87", issuing.Raw, root.RawSubjectPublicKeyInfo),
		signedObject(t, "root", root.Raw, root.RawSubjectPublicKeyInfo),
		signedObject(t, "request by ML-DSA-44", pemFile(t, stem+".csr")[0], leaf.RawSubjectPublicKeyInfo),
		signedObject(t, "request by ML-DSA-87", elsewhere.Bytes, requestKey(t, elsewhere.Bytes)),
		signedObject(t, "shard by ML-DSA-65", get(t, leaf.CRLDistributionPoints[0]), issuing.RawSubjectPublicKeyInfo),
		signedObject(t, "list by ML-DSA-87", get(t, issuing.CRLDistributionPoints[0]), root.RawSubjectPublicKeyInfo),
		signedResponse(t, s, leaf, issuing),
	}
	if list, err := crl.Parse(get(t, leaf.CRLDistributionPoints[0])); err != nil || list.Len() == 0 {
		t.Errorf("the shard that is judged lists nothing: %v", err)
	}
	said := node.verify(t, signed, [][2][]byte{{leaf.Raw, issuing.Raw}, {issuing.Raw, root.Raw}, {root.Raw, root.Raw}}, stem+".key")
	for name, ok := range said {
		if !ok {
			t.Errorf("%s: Node says no", name)
		}
	}
	if want := 2*len(signed) + 3*2 + 1; len(said) != want {
		t.Errorf("Node was asked %d questions, and answered %d", want, len(said))
	}

	node.connects(t, stem, root)
	node.serves(t, stem, root)
}

// signedBy is a signed object, split into its parts for judges that know no format.
type signedBy struct {
	Name      string `json:"name"`
	TBS       []byte `json:"tbs"`
	Signature []byte `json:"signature"`
	SPKI      []byte `json:"spki"`
}

// signedObject takes apart what X.509 calls SIGNED: a certificate, a request or a list.
func signedObject(t *testing.T, name string, der, spki []byte) signedBy {
	t.Helper()
	var whole, tbs cryptobyte.String
	var signature []byte
	input := cryptobyte.String(der)
	if !input.ReadASN1(&whole, asn1.SEQUENCE) || !whole.ReadASN1Element(&tbs, asn1.SEQUENCE) || !whole.SkipASN1(asn1.SEQUENCE) || !whole.ReadASN1BitStringAsBytes(&signature) {
		t.Fatalf("%s is no signed object", name)
	}
	return signedBy{name, tbs, signature, spki}
}

// signedResponse is the answer of the responder about a certificate.
func signedResponse(t *testing.T, s *site, leaf, issuer *x509.Certificate) signedBy {
	t.Helper()
	response, err := ocsp.ParseResponse(fetchOCSP(t, leaf, issuer))
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Certificates) != 1 {
		t.Fatalf("%d certificates with the response", len(response.Certificates))
	}
	return signedBy{"OCSP response by ML-DSA-65", response.Signed, response.Signature, parsed(t, response.Certificates[0]).RawSubjectPublicKeyInfo}
}

func requestKey(t *testing.T, der []byte) []byte {
	t.Helper()
	request, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return request.RawSubjectPublicKeyInfo
}

func pemFile(t *testing.T, path string) (ders [][]byte) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		ders = append(ders, block.Bytes)
	}
	if len(ders) == 0 {
		t.Fatalf("%s holds nothing", path)
	}
	return ders
}

func parsed(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// node is a program that knows ML-DSA by OpenSSL's arithmetic, and not by Go's.
type node struct{ path string }

func newNode(t *testing.T) node {
	t.Helper()
	path, err := exec.LookPath("node")
	if err == nil {
		err = exec.Command(path, "-e", `require("crypto").generateKeyPairSync("ml-dsa-44")`).Run()
	}
	if err != nil {
		t.Fatalf("a Node with OpenSSL 3.5 or later: %v: run scripts/test interop, which brings it", err)
	}
	return node{path}
}

// verify asks about every signature, once as it is and once with a flipped bit; about every certificate and the one
// above it; and whether a key in a file is that of the first certificate. The map says, by question, whether the answer
// is the right one.
func (n node) verify(t *testing.T, signed []signedBy, chain [][2][]byte, key string) map[string]bool {
	t.Helper()
	question, err := json.Marshal(map[string]any{"signed": signed, "chain": chain, "key": key})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), n.path, "-e", `
const crypto = require("crypto"), fs = require("fs");
const asked = JSON.parse(fs.readFileSync(0)), answers = {};
const octets = (text) => Buffer.from(text, "base64");
for (const s of asked.signed) {
  const key = crypto.createPublicKey({key: octets(s.spki), format: "der", type: "spki"}), tbs = octets(s.tbs);
  answers[s.name] = key.asymmetricKeyType.startsWith("ml-dsa-") && crypto.verify(null, tbs, key, octets(s.signature));
  tbs[tbs.length >> 1] ^= 1;
  answers[s.name + ", one bit flipped"] = !crypto.verify(null, tbs, key, octets(s.signature));
}
asked.chain.forEach(([below, above], i) => {
  const c = new crypto.X509Certificate(octets(below)), issuer = new crypto.X509Certificate(octets(above));
  answers["certificate " + i + " verifies"] = c.verify(issuer.publicKey);
  answers["certificate " + i + " was issued by it"] = c.checkIssued(issuer);
});
answers["the key is of the certificate"] = new crypto.X509Certificate(octets(asked.chain[0][0])).checkPrivateKey(crypto.createPrivateKey(fs.readFileSync(asked.key)));
console.log(JSON.stringify(answers));
`)
	cmd.Stdin = bytes.NewReader(question)
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("node: %s", failed.Stderr)
	}
	answers := make(map[string]bool)
	if err := errors.Join(err, json.Unmarshal(out, &answers)); err != nil {
		t.Fatalf("node said %s: %v", out, err)
	}
	return answers
}

// connects has Node connect to a server of crypto/tls that shows the chain, and believe it by the root.
func (n node) connects(t *testing.T, stem string, root *x509.Certificate) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(stem+".pem", stem+".key")
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("hello")) // a client without a handshake gets nothing
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, test := range []struct{ name, roots, want string }{
		{"by the root", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})), "hello"},
		{"by nothing", "", "SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_GET_ISSUER_CERT_LOCALLY"},
	} {
		cmd := exec.CommandContext(t.Context(), n.path, "-e", `
const socket = require("tls").connect({port: +process.argv[1], host: "127.0.0.1", servername: "localhost", ca: process.argv[2] || undefined});
socket.on("data", (data) => console.log(String(data)));
socket.on("error", (err) => console.log(err.code));
`, port, test.roots)
		out, err := cmd.CombinedOutput()
		if said := strings.TrimSpace(string(out)); err != nil || !strings.Contains("|"+test.want+"|", "|"+said+"|") {
			t.Errorf("Node, %s: %s, %v; want %s", test.name, out, err, test.want)
		}
	}
}

// serves has Node show the chain, with the key as it is in the file, to itself. A client of crypto/tls is refused by
// OpenSSL before the chain is shown: in Go 1.27 it does not say that it takes certificates that ML-DSA signed
// (docs/INTEROP.md).
func (n node) serves(t *testing.T, stem string, root *x509.Certificate) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), n.path, "-e", `
const fs = require("fs"), tls = require("tls"), [cert, key] = process.argv.slice(1, 3).map((name) => fs.readFileSync(name));
const server = tls.createServer({cert, key}, (socket) => socket.end("hello")).listen(0, "127.0.0.1", () => {
  const socket = tls.connect({port: server.address().port, host: "127.0.0.1", servername: "localhost", ca: process.argv[3]});
  socket.on("data", (data) => console.log(socket.getProtocol(), String(data)));
  socket.on("close", () => server.close());
});
`, stem+".pem", stem+".key", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.Raw})))
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "TLSv1.3 hello\n" {
		t.Errorf("Node to Node: %s, %v", out, err)
	}
}
