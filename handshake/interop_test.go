package handshake_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"signet.example/signet/handshake"
	"signet.example/signet/handshake/handshaketest"
	"signet.example/signet/internal/testport"
)

// files writes the files that foreign tools need: chain, key and root of a certificate, and the CRLs of its issuers.
func files(t *testing.T, c *handshaketest.Cert) (chain, key, root, crls string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, blocks ...*pem.Block) string {
		var out bytes.Buffer
		for _, block := range blocks {
			if err := pem.Encode(&out, block); err != nil {
				t.Fatal(err)
			}
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var certs, lists []*pem.Block
	for at := c; at.Issuer != nil; at = at.Issuer {
		certs = append(certs, &pem.Block{Type: "CERTIFICATE", Bytes: at.Raw})
		lists = append(lists, &pem.Block{Type: "X509 CRL", Bytes: at.Issuer.CRL(handshaketest.CRL{})})
	}
	der, err := x509.MarshalECPrivateKey(c.Key.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	chain = write("chain.pem", certs...)
	key = write("key.pem", &pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
	root = write("root.pem", &pem.Block{Type: "CERTIFICATE", Bytes: c.Root().Raw})
	return chain, key, root, write("crls.pem", lists...)
}

// start runs a foreign server until the test ends and waits until it listens.
func start(t *testing.T, address string, name string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	stdin, err := cmd.StdinPipe() // s_server ends when its input does
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, output.String())
		}
	})
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
	}
	t.Fatalf("%s does not listen", name)
}

// TestInteropOpenSSLServer: our client reads the staple of openssl s_server and refuses a certificate that it revokes.
func TestInteropOpenSSLServer(t *testing.T) {
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		for _, revoked := range []bool{false, true} {
			t.Run(fmt.Sprint(version, revoked), func(t *testing.T) {
				p := handshaketest.New(t, "root -> int -> leaf nocdp noaia")
				leaf := p.Cert("leaf")
				if revoked {
					leaf.Revoke(1)
				}
				chain, key, _, _ := files(t, leaf)
				staple := filepath.Join(t.TempDir(), "staple.der")
				if err := os.WriteFile(staple, leaf.OCSP(handshaketest.OCSP{}), 0o600); err != nil {
					t.Fatal(err)
				}
				port := testport.Free(t)
				start(t, "127.0.0.1:"+port, "openssl", "s_server", "-accept", "127.0.0.1:"+port, "-cert", chain, "-cert_chain", chain, "-key", key, "-status_file", staple, version, "-quiet")
				conn, result, err := (&handshake.Dialer{Checker: p.Checker(nil), TLS: p.ClientConfig(leaf)}).DialResult(context.Background(), "tcp", "127.0.0.1:"+port)
				if (err != nil) != revoked || result == nil || result.Certificates[0].Decisive.Source != handshake.SourceStaple {
					t.Errorf("%v %+v", err, result)
				}
				if conn != nil {
					conn.Close()
				}
			})
		}
	}
}

// TestInteropOpenSSLClient: openssl s_client verifies our staple and our chain, before and after a revocation.
func TestInteropOpenSSLClient(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf")
	leaf := p.Cert("leaf")
	stapler, _ := newStapler(t, p, "leaf", "")
	stapler.Refresh(t.Context())
	address := p.Listen(stapler.Configure(&tls.Config{}))
	ask := func(args ...string) (string, error) {
		_, _, root, crls := files(t, leaf)
		trust, err := os.ReadFile(root)
		if err != nil {
			t.Fatal(err)
		}
		lists, err := os.ReadFile(crls)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(root, append(trust, lists...), 0o600); err != nil { // s_client reads CRLs there, too
			t.Fatal(err)
		}
		args = append([]string{"s_client", "-connect", address, "-CAfile", root, "-status", "-verify_return_error", "-verify_hostname", "localhost"}, args...)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "openssl", args...)
		cmd.Stdin = strings.NewReader("Q\n")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := ask("-crl_check_all")
	if err != nil || !strings.Contains(out, "OCSP Response Status: successful") || !strings.Contains(out, "Cert Status: good") || !strings.Contains(out, "Verify return code: 0") {
		t.Errorf("%v\n%s", err, out)
	}
	leaf.Revoke(1)
	if out, err := ask("-crl_check_all"); err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("after the revocation: %v\n%s", err, out)
	}
	p.Advance(time.Minute)
	stapler.Refresh(t.Context())
	if out, _ := ask(); strings.Contains(out, "Cert Status: good") {
		t.Errorf("a staple that says good is still sent\n%s", out)
	}
}

// TestInteropNginx: nginx staples the response of our responder and refuses clients by our CRL; our client and server
// agree with it.
func TestInteropNginx(t *testing.T) {
	p := handshaketest.New(t, "root -> int -> leaf nocdp; int -> alice; int -> mallory revoked")
	leaf := p.Cert("leaf")
	chain, key, root, crls := files(t, leaf)
	port, dir := testport.Free(t), t.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server {
    listen 127.0.0.1:%[2]s ssl;
    ssl_certificate %[3]s; ssl_certificate_key %[4]s; ssl_trusted_certificate %[5]s;
    ssl_stapling on; ssl_stapling_verify on;
    ssl_client_certificate %[5]s; ssl_verify_client optional; ssl_verify_depth 4; ssl_crl %[6]s;
    location / { return 200 "$ssl_client_verify"; }
  }
}`, dir, port, chain, key, root, crls)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "127.0.0.1:"+port, "nginx", "-p", dir, "-c", config)

	checker := p.Checker(func(c *handshake.Config) { c.Network = handshake.NetworkNever })
	stapled := func() error {
		conn, _, err := (&handshake.Dialer{Checker: checker, TLS: p.ClientConfig(leaf)}).DialResult(context.Background(), "tcp", "127.0.0.1:"+port)
		if err == nil {
			conn.Close()
		}
		return err
	}
	// nginx asks the responder after the first handshake, so the first ones have no staple. The CRL of the root, which
	// speaks for the intermediate, is fetched once by another Checker that shares only the trusted root.
	deadline := time.Now().Add(time.Minute)
	for {
		err := stapled()
		missing, ok := err.(*handshake.UnavailableError)
		if err == nil || ok && missing.Certificate.Equal(p.Cert("int").Certificate) {
			break // the leaf is settled by the staple alone
		}
		if time.Now().After(deadline) {
			t.Fatalf("nginx never stapled: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}

	for name, want := range map[string]string{"alice": "SUCCESS", "mallory": ""} {
		certificate := p.Cert(name).TLS(nil)
		clientConfig := p.ClientConfig(leaf)
		clientConfig.Certificates = []tls.Certificate{certificate}
		transport, err := p.Checker(nil).Transport(clientConfig)
		if err != nil {
			t.Fatal(err)
		}
		response, err := (&http.Client{Transport: transport}).Get("https://127.0.0.1:" + port + "/")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if refused := response.StatusCode != http.StatusOK; refused != (want == "") || want != "" && string(body) != want {
			t.Errorf("%s: %s %s", name, response.Status, body)
		}
	}
}

// TestInteropGnuTLS: our client reads the staple of gnutls-serv, and gnutls-cli reads ours and draws the same conclusion.
func TestInteropGnuTLS(t *testing.T) {
	for _, revoked := range []bool{false, true} {
		t.Run(fmt.Sprint("revoked ", revoked), func(t *testing.T) {
			p := handshaketest.New(t, "root -> int -> leaf nocdp noaia")
			leaf := p.Cert("leaf")
			if revoked {
				leaf.Revoke(1)
			}
			chain, key, root, _ := files(t, leaf)
			body := leaf.OCSP(handshaketest.OCSP{Hash: crypto.SHA1})
			staple := filepath.Join(t.TempDir(), "staple.der")
			if err := os.WriteFile(staple, body, 0o600); err != nil {
				t.Fatal(err)
			}
			port := testport.Free(t)
			start(t, "127.0.0.1:"+port, "gnutls-serv", "--quiet", "--disable-client-cert", "--port", port, "--x509certfile", chain, "--x509keyfile", key, "--ocsp-response", staple, "--ignore-ocsp-response-errors")
			conn, result, err := (&handshake.Dialer{Checker: p.Checker(nil), TLS: p.ClientConfig(leaf)}).DialResult(t.Context(), "tcp", "127.0.0.1:"+port)
			if (err != nil) != revoked || result == nil || result.Certificates[0].Decisive.Source != handshake.SourceStaple {
				t.Errorf("our client: %v", err)
			}
			if conn != nil {
				conn.Close()
			}
			_, ours, err := net.SplitHostPort(p.Listen(p.ServerConfig(leaf, body)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "gnutls-cli", "--x509cafile", root, "--port", ours, "--ocsp", "localhost")
			cmd.Stdin = strings.NewReader("")
			if out, err := cmd.CombinedOutput(); (err != nil) != revoked {
				t.Errorf("gnutls-cli: %v\n%s", err, out)
			}
		})
	}
}
