// Package wire shows a TLS handshake the way the textbooks tell it, while it happens, on a connection that crypto/tls
// runs.
//
// A Tap is a net.Conn that stands between crypto/tls and the network. It changes nothing and delays nothing; it parses
// the records and handshake messages that pass and tells them as Steps, in this order:
//
//	 1  client-hello       what the client offers
//	 2  server-choice      what the server picked of it, and how strong that is
//	 3  certificate        the server's name, authority and key; client-certificate tells the client's
//	 4  trust              which root the chain leads to, or how nearly it did
//	 5  revocation         which source was asked, what it said, how old that was
//	 6  key-exchange       how both sides come to share a secret, and who proved to be whom
//	 7  key-derivation     what keys are made of it
//	 8  finished           both sides prove that they saw the same handshake
//	 9  application-data   how much was said
//	10  close              who ended it, and how
//
// Steps 4 and 5 are judgements, not octets: whoever judges tells the Tap (Judged, Checked). All others come from what
// passed on the wire. From TLS 1.3 on most of a handshake is encrypted; the Tap opens it with the connection's own
// secrets, which crypto/tls hands to Config.KeyLogWriter. They stay in the Tap's memory and are dropped by Close; the
// Tap never writes them anywhere, and no Step contains one.
//
//	show := wire.Printer{W: os.Stdout}
//	tap := wire.NewTap(raw, wire.Config{Step: func(s wire.Step) { show.Step(s) }})
//	conn := tls.Client(tap, tap.Watch(&tls.Config{ServerName: "ca.example"}))
//	err := conn.HandshakeContext(ctx)
//	tap.Done(err)
//
// What the Tap reads was written by others. Every parser is bounded; when a Tap can not follow any more it says so in
// its steps and lets the octets pass: it is an observer, and crypto/tls is the judge.
package wire
