// Package wire explains a TLS handshake while it happens, in the steps of the textbooks, on a connection that crypto/tls
// runs.
//
// A Tap is a net.Conn between crypto/tls and the network. It changes nothing and delays nothing. It parses the records
// and handshake messages that pass and reports them as Steps, in this order:
//
//	 1  client-hello       what the client offers
//	 2  server-choice      what the server chose, and how strong that is
//	 3  certificate        the server's name, authority and key; client-certificate has the client's
//	 4  trust              which root the chain leads to, or how nearly it did
//	 5  revocation         which source was asked, its answer, and the age of that
//	 6  key-exchange       how both sides come to share a secret, and which of them proved its identity
//	 7  key-derivation     which keys are derived from it
//	 8  finished           both sides prove that they saw the same handshake
//	 9  application-data   how much was sent in each direction
//	10  close              which side ended the connection, and how
//
// Steps 4 and 5 are judgements: the verifier passes them to the Tap (Judged, Checked). All other steps come from the
// octets on the wire. From TLS 1.3 on most of a handshake is encrypted. The Tap decrypts it with the connection's own
// secrets, which crypto/tls hands to Config.KeyLogWriter. They stay in the Tap's memory until Close drops them. The Tap
// never writes them anywhere, and no Step contains one.
//
//	show := wire.Printer{W: os.Stdout}
//	tap := wire.NewTap(raw, wire.Config{Step: func(s wire.Step) { show.Step(s) }})
//	conn := tls.Client(tap, tap.Watch(&tls.Config{ServerName: "ca.example"}))
//	err := conn.HandshakeContext(ctx)
//	tap.Done(err)
//
// The Tap reads untrusted octets, so every parser is bounded. A Tap that can no longer follow says so in its steps and
// lets the octets pass: it only observes, and crypto/tls decides.
package wire
