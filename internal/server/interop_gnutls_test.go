package server_test

import (
	"net"
	"strings"
)

// gnutlsReaders. certtool --verify passes over the critical issuing distribution point of a shard and the signature of
// any list (docs/INTEROP.md), so it is given the right shard, and --verify-crl goes before it.
var gnutlsReaders = []reader{
	{name: "GnuTLS: certtool --verify, by complete lists", chain: true, believes: true, ask: gnutlsVerify("completes.pem")},
	{name: "GnuTLS: certtool --verify, by shards", chain: true, believes: true, ask: gnutlsVerify("shards.pem")},
	{name: "GnuTLS: certtool --verify-crl, --crl-info", ask: gnutlsLists},
	{name: "GnuTLS: ocsptool --ask", ocsp: true, ask: gnutlsAsk("--no-nonce")},
	{name: "GnuTLS: ocsptool --ask --nonce", ocsp: true, ask: gnutlsAsk("--nonce")},
	{name: "GnuTLS: ocsptool --verify-response", ocsp: true, ask: gnutlsResponse},
	{name: "GnuTLS: gnutls-cli --ocsp", chain: true, ocsp: true, ask: func(j *judge, s *subject) opinion {
		out, status := j.exit("", "gnutls-cli", "--ocsp", "--x509cafile", "root.pem", "--port", s.port(s.bare), "localhost")
		return opinion{said: wordIn(out, status == 0 && strings.Contains(out, "OCSP: verified"), "Certificate was revoked"), output: out}
	}},
	{name: "GnuTLS: gnutls-cli, stapled", staples: true, ask: gnutlsStapled},
}

func gnutlsVerify(lists string) func(*judge, *subject) opinion {
	return func(j *judge, s *subject) opinion {
		out, ok := j.run("certtool", "--verify", "--load-ca-certificate", "root.pem", "--load-crl", lists, "--infile", s.name+"-chain.pem")
		return opinion{said: wordIn(out, ok && strings.Contains(out, "Checked against CRL"), "is revoked"), output: out}
	}
}

// gnutlsLists checks every list, and looks the certificate up in its shard.
func gnutlsLists(j *judge, s *subject) opinion {
	var all string
	for list, signer := range map[string]string{"shard": "issuing.pem", "complete": "issuing.pem", "delta": "issuing.pem", "root": "root.pem"} {
		out, ok := j.run("certtool", "--verify-crl", "--load-ca-certificate", signer, "--infile", list+".crl.pem")
		if all += out; !ok || !strings.Contains(out, "Verification output: Verified") {
			return opinion{said: nothing, output: all}
		}
	}
	out := j.must("certtool", "--crl-info", "--infile", "shard.crl.pem")
	return opinion{said: wordIn(out, true, "Serial Number (hex): "+s.record.Serial.String()), output: out}
}

func gnutlsAsk(nonce string) func(*judge, *subject) opinion {
	return func(j *judge, s *subject) opinion {
		out, _ := j.run("ocsptool", "--ask="+s.OCSPServer[0], nonce, "--load-issuer", "issuing.pem", "--load-cert", s.name+".pem")
		return gnutlsSaid(out)
	}
}

// gnutlsSaid reads what ocsptool prints. It ends well whatever it prints of the certificate.
func gnutlsSaid(out string) opinion {
	trusted := strings.Contains(out, "Verifying OCSP Response: Success")
	said := wordIn(out, trusted && strings.Contains(out, "Certificate Status: good"), "Certificate Status: revoked")
	if !trusted {
		said = nothing
	}
	return opinion{said: said, output: out}
}

func gnutlsResponse(j *judge, s *subject) opinion {
	j.staple(s)
	out, _ := j.run("ocsptool", "--verify-response", "--load-response", "staple.der", "--load-issuer", "issuing.pem", "--load-trust", "authorities.pem")
	return gnutlsSaid(out)
}

// gnutlsStapled demands nothing of a server that staples nothing, so it is asked what it saw.
func gnutlsStapled(j *judge, s *subject) opinion {
	out, status := j.exit("", "gnutls-cli", "--x509cafile", "root.pem", "--port", s.port(s.stapled), "localhost")
	return opinion{said: wordIn(out, status == 0 && strings.Contains(out, "OCSP status request,"), "is revoked"), output: out}
}

// gnutlsServer staples whatever the authority said.
func (j *judge) gnutlsServer(s *subject) string {
	j.staple(s)
	address := j.freeAddress()
	_, port, _ := net.SplitHostPort(address) // it has one
	j.start(address, "gnutls-serv", "--quiet", "--disable-client-cert", "--port", port, "--x509certfile", s.name+"-chain.pem", "--x509keyfile", s.name+".key",
		"--ocsp-response", "staple.der", "--ignore-ocsp-response-errors")
	return address
}
