package wire

import "crypto/tls"

// ClassicalSuites returns the suites with RSA key transport that crypto/tls still speaks if they are listed explicitly,
// strongest first: authenticated encryption, then CBC with HMAC-SHA-256, then CBC with HMAC-SHA-1. 3DES and RC4 are
// left out.
func ClassicalSuites() []uint16 {
	return []uint16{
		tls.TLS_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA256,
		tls.TLS_RSA_WITH_AES_256_CBC_SHA,
		tls.TLS_RSA_WITH_AES_128_CBC_SHA,
	}
}

// Classical returns a copy of cfg for the key exchange of SSL's textbooks: TLS 1.2 in which the client encrypts the
// session's secret to the server's RSA key. It has no forward secrecy: a recorded session can be read with the server's
// key, however much later, as package laboratory does. TLS 1.3 has abolished it. Use it only for demonstration.
//
// crypto/tls offers these suites only by explicit list; no GODEBUG setting is needed.
func Classical(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	cfg.CipherSuites = ClassicalSuites()
	return cfg
}
