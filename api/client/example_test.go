package client_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log"

	"signet.example/signet/api/client"
	"signet.example/signet/pki"
)

// A program makes a key, has it certified, and later has the certificate revoked, everywhere.
func Example() {
	ctx := context.Background()
	roots, err := client.ReadRoots("root.pem")
	if err != nil {
		log.Fatal(err)
	}
	token, err := client.ReadToken("web.token")
	if err != nil {
		log.Fatal(err)
	}
	c, err := client.New(client.Config{Address: "pki.example:8443", Roots: roots, Token: token})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{"web.example"}}, key)
	if err != nil {
		log.Fatal(err)
	}
	// Whoever asks again with the same id gets the same certificate, should the answer be lost.
	issued, err := c.Issue(ctx, client.IssueRequest{CSR: csr, Profile: "server", RequestID: "web-2026-11"})
	if refused, ok := errors.AsType[*pki.Error](err); ok {
		log.Fatalf("%v (%s); %s", refused, refused.Field, refused.Hint)
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", issued.PEM) // with its chain, as a server sends it

	change, err := c.Revoke(ctx, client.RevokeRequest{Certificate: issued.Certificate.DER, Reason: pki.Superseded, WaitPublished: true})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("revoked, and published by every instance at", change.PublishedAt)
}
