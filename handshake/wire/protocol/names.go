package protocol

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
)

// Role is one of the two ends of a connection.
type Role uint8

// The roles. Zero is the client.
const (
	Client Role = iota
	Server
)

// String is "client" or "server".
func (r Role) String() string {
	if r == Server {
		return "server"
	}
	return "client"
}

// MarshalText is String.
func (r Role) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Peer is the other end.
func (r Role) Peer() Role { return 1 - r }

// The code points of the protocol as they stand on the wire. Each prints as the IANA registry names it, or as 0x….
type (
	Version   uint16
	Suite     uint16
	Group     uint16
	Scheme    uint16 // a signature algorithm
	Extension uint16
	Alert     uint8
)

// String names the version: "TLS 1.3".
func (v Version) String() string {
	switch v {
	case tls.VersionTLS13, tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10:
		return tls.VersionName(uint16(v))
	case 0x0300:
		return "SSL 3.0"
	}
	return codePoint(uint16(v))
}

// String names the cipher suite: "TLS_AES_128_GCM_SHA256".
func (s Suite) String() string {
	if name, ok := foreignSuites[s]; ok {
		return name
	}
	if name := tls.CipherSuiteName(uint16(s)); !strings.HasPrefix(name, "0x") {
		return name
	}
	return codePoint(uint16(s))
}

// String names the group: "X25519MLKEM768".
func (g Group) String() string { return named(groupNames, uint16(g)) }

// String names the signature algorithm: "rsa_pss_rsae_sha256".
func (s Scheme) String() string { return named(schemeNames, uint16(s)) }

// String names the extension: "status_request".
func (e Extension) String() string { return named(extensionNames, uint16(e)) }

// String names the alert: "bad_certificate".
func (a Alert) String() string {
	if name, ok := alertNames[a]; ok {
		return name
	}
	return fmt.Sprintf("alert %d", uint8(a))
}

// MarshalText is String.
func (v Version) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// MarshalText is String.
func (s Suite) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText is String.
func (g Group) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// MarshalText is String.
func (s Scheme) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// MarshalText is String.
func (e Extension) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText is String.
func (a Alert) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// IsGREASE reports whether a value is one of the reserved values that clients put into their lists, so that servers
// keep ignoring values that they do not know (RFC 8701).
func IsGREASE(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

func named(names map[uint16]string, v uint16) string {
	if name, ok := names[v]; ok {
		return name
	}
	return codePoint(v)
}

func codePoint(v uint16) string {
	if IsGREASE(v) {
		return fmt.Sprintf("GREASE (0x%04x)", v)
	}
	return fmt.Sprintf("0x%04x", v)
}

// foreignSuites are suites that peers offer and crypto/tls does not know.
var foreignSuites = map[Suite]string{
	0x00ff: "TLS_EMPTY_RENEGOTIATION_INFO_SCSV", 0x5600: "TLS_FALLBACK_SCSV",
	0x1304: "TLS_AES_128_CCM_SHA256", 0x1305: "TLS_AES_128_CCM_8_SHA256",
	0x0033: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA", 0x0039: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA",
	0x0067: "TLS_DHE_RSA_WITH_AES_128_CBC_SHA256", 0x006b: "TLS_DHE_RSA_WITH_AES_256_CBC_SHA256",
	0x009e: "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", 0x009f: "TLS_DHE_RSA_WITH_AES_256_GCM_SHA384",
	0xccaa: "TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xc09e: "TLS_DHE_RSA_WITH_AES_128_CCM",
	0xc09f: "TLS_DHE_RSA_WITH_AES_256_CCM", 0x003d: "TLS_RSA_WITH_AES_256_CBC_SHA256",
	0xc09c: "TLS_RSA_WITH_AES_128_CCM", 0xc09d: "TLS_RSA_WITH_AES_256_CCM",
	0xc0ac: "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", 0xc0ad: "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
	0xc024: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384", 0xc028: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384",
	0x0016: "TLS_DHE_RSA_WITH_3DES_EDE_CBC_SHA", 0x0041: "TLS_RSA_WITH_CAMELLIA_128_CBC_SHA",
	0x0084: "TLS_RSA_WITH_CAMELLIA_256_CBC_SHA",
}

var groupNames = map[uint16]string{
	0x11ec: "X25519MLKEM768", 0x11eb: "SecP256r1MLKEM768", 0x11ed: "SecP384r1MLKEM1024", 0x6399: "X25519Kyber768Draft00",
	0x0200: "MLKEM512", 0x0201: "MLKEM768", 0x0202: "MLKEM1024",
	29: "X25519", 30: "X448", 23: "P-256", 24: "P-384", 25: "P-521", 21: "P-224", 22: "secp256k1",
	26: "brainpoolP256r1", 27: "brainpoolP384r1", 28: "brainpoolP512r1",
	31: "brainpoolP256r1tls13", 32: "brainpoolP384r1tls13", 33: "brainpoolP512r1tls13",
	256: "ffdhe2048", 257: "ffdhe3072", 258: "ffdhe4096", 259: "ffdhe6144", 260: "ffdhe8192",
}

var schemeNames = map[uint16]string{
	0x0201: "rsa_pkcs1_sha1", 0x0203: "ecdsa_sha1", 0x0202: "dsa_sha1",
	0x0301: "rsa_pkcs1_sha224", 0x0302: "dsa_sha224", 0x0303: "ecdsa_sha224", 0x0402: "dsa_sha256", 0x0502: "dsa_sha384", 0x0602: "dsa_sha512",
	0x0401: "rsa_pkcs1_sha256", 0x0501: "rsa_pkcs1_sha384", 0x0601: "rsa_pkcs1_sha512",
	0x0403: "ecdsa_secp256r1_sha256", 0x0503: "ecdsa_secp384r1_sha384", 0x0603: "ecdsa_secp521r1_sha512",
	0x0804: "rsa_pss_rsae_sha256", 0x0805: "rsa_pss_rsae_sha384", 0x0806: "rsa_pss_rsae_sha512",
	0x0809: "rsa_pss_pss_sha256", 0x080a: "rsa_pss_pss_sha384", 0x080b: "rsa_pss_pss_sha512",
	0x0807: "ed25519", 0x0808: "ed448",
	0x081a: "ecdsa_brainpoolP256r1tls13_sha256", 0x081b: "ecdsa_brainpoolP384r1tls13_sha384", 0x081c: "ecdsa_brainpoolP512r1tls13_sha512",
	0x0904: "mldsa44", 0x0905: "mldsa65", 0x0906: "mldsa87",
}

// The extensions that this package reads.
const (
	extServerName          = 0
	extStatusRequest       = 5
	extSupportedGroups     = 10
	extSignatureAlgorithms = 13
	extALPN                = 16
	extEncryptThenMAC      = 22
	extMasterSecret        = 23
	extSessionTicket       = 35
	extPreSharedKey        = 41
	extEarlyData           = 42
	extSupportedVersions   = 43
	extAuthorities         = 47
	extKeyShare            = 51
)

var extensionNames = map[uint16]string{
	extServerName: "server_name", 1: "max_fragment_length", extStatusRequest: "status_request", extSupportedGroups: "supported_groups",
	11: "ec_point_formats", extSignatureAlgorithms: "signature_algorithms", 14: "use_srtp", extALPN: "application_layer_protocol_negotiation",
	17: "status_request_v2", 18: "signed_certificate_timestamp", 19: "client_certificate_type", 20: "server_certificate_type",
	21: "padding", extEncryptThenMAC: "encrypt_then_mac", extMasterSecret: "extended_master_secret", 27: "compress_certificate", 28: "record_size_limit",
	34: "delegated_credential", extSessionTicket: "session_ticket", extPreSharedKey: "pre_shared_key", extEarlyData: "early_data",
	extSupportedVersions: "supported_versions", 44: "cookie", 45: "psk_key_exchange_modes", extAuthorities: "certificate_authorities",
	48: "oid_filters", 49: "post_handshake_auth", 50: "signature_algorithms_cert", extKeyShare: "key_share",
	57: "quic_transport_parameters", 17513: "application_settings_old", 17613: "application_settings",
	0xfe0d: "encrypted_client_hello", 0xff01: "renegotiation_info",
}

// AlertCloseNotify announces that its sender will send no more (RFC 8446, Section 6.1).
const AlertCloseNotify Alert = 0

// Alerts that end a handshake and tell what to change in the next (RFC 8446, Section 6.2; RFC 7301, Section 3.2).
const (
	AlertUnrecognizedName      Alert = 112
	AlertCertificateRequired   Alert = 116
	AlertNoApplicationProtocol Alert = 120
)

// The types of records (RFC 8446, Section 5.1).
const (
	RecordChangeCipher = 20
	RecordAlert        = 21
	RecordHandshake    = 22
	RecordApplication  = 23
	RecordHeartbeat    = 24 // RFC 6520; should not be used
)

// HeaderSize is the size of a record's header, MaxRecord the bound of the rest of it, both in octets. The bound is that
// of TLS 1.2 (RFC 5246, Section 6.2.3), which is larger than that of TLS 1.3.
const (
	HeaderSize = 5
	MaxRecord  = 1<<14 + 2048
)

var alertNames = map[Alert]string{
	AlertCloseNotify: "close_notify", 10: "unexpected_message", 20: "bad_record_mac", 21: "decryption_failed", 22: "record_overflow",
	30: "decompression_failure", 40: "handshake_failure", 41: "no_certificate", 42: "bad_certificate", 43: "unsupported_certificate",
	44: "certificate_revoked", 45: "certificate_expired", 46: "certificate_unknown", 47: "illegal_parameter", 48: "unknown_ca",
	49: "access_denied", 50: "decode_error", 51: "decrypt_error", 60: "export_restriction", 70: "protocol_version",
	71: "insufficient_security", 80: "internal_error", 86: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation",
	109: "missing_extension", 110: "unsupported_extension", 111: "certificate_unobtainable", 112: "unrecognized_name",
	113: "bad_certificate_status_response", 114: "bad_certificate_hash_value", 115: "unknown_psk_identity",
	116: "certificate_required", 120: "no_application_protocol", 121: "ech_required",
}

// The handshake messages (RFC 5246, Section 7.4; RFC 8446, Section 4).
const (
	MsgHelloRequest       = 0
	MsgClientHello        = 1
	MsgServerHello        = 2
	MsgNewSessionTicket   = 4
	MsgEndOfEarlyData     = 5
	MsgEncryptedExtension = 8
	MsgCertificate        = 11
	MsgServerKeyExchange  = 12
	MsgCertificateRequest = 13
	MsgServerHelloDone    = 14
	MsgCertificateVerify  = 15
	MsgClientKeyExchange  = 16
	MsgFinished           = 20
	MsgCertificateStatus  = 22
	MsgKeyUpdate          = 24
	MsgCompressedCert     = 25
	MsgMessageHash        = 254
)

var messageNames = map[uint8]string{
	MsgHelloRequest: "HelloRequest", MsgClientHello: "ClientHello", MsgServerHello: "ServerHello", MsgNewSessionTicket: "NewSessionTicket",
	MsgEndOfEarlyData: "EndOfEarlyData", MsgEncryptedExtension: "EncryptedExtensions", MsgCertificate: "Certificate",
	MsgServerKeyExchange: "ServerKeyExchange", MsgCertificateRequest: "CertificateRequest", MsgServerHelloDone: "ServerHelloDone",
	MsgCertificateVerify: "CertificateVerify", MsgClientKeyExchange: "ClientKeyExchange", MsgFinished: "Finished",
	MsgCertificateStatus: "CertificateStatus", MsgKeyUpdate: "KeyUpdate", MsgCompressedCert: "CompressedCertificate",
}

// MessageName names a handshake message from its first octets: its header, and for a ServerHello the random value that
// makes it a HelloRetryRequest.
func MessageName(message []byte) string {
	if len(message) == 0 {
		return "nothing"
	}
	t := message[0]
	if t == MsgServerHello && len(message) >= 6+len(helloRetry) && bytes.Equal(message[6:6+len(helloRetry)], helloRetry[:]) {
		return "HelloRetryRequest"
	}
	if name, ok := messageNames[t]; ok {
		return name
	}
	return fmt.Sprintf("handshake message %d", t)
}
