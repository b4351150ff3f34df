package wire

import "crypto/tls"

// ClassicalSuites are the suites of RSA key transport that crypto/tls still speaks when told to in as many words, strongest
// first: authenticated encryption, then CBC with HMAC-SHA-256, then with HMAC-SHA-1. 3DES and RC4 are left to history.
func ClassicalSuites() []uint16 {
	return []uint16{
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	}
}

// Classical returns a copy of cfg for the exchange of SSL's textbooks: TLS 1.2 in which the client sends the session's
// secret encrypted to the server's RSA key. It has no forward secrecy: whoever records such a session and ever gets the
// server's key reads it. Package laboratory does. TLS 1.3 has abolished it, and no client should use it but to look.
//
// crypto/tls offers these suites only by explicit list; no GODEBUG setting is needed.
func Classical(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	cfg.CipherSuites = ClassicalSuites()
	return cfg
}
