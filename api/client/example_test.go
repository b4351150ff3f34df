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
	"time"

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

// What ends within 30 days. Pages are fetched as they are needed.
func ExampleClient_AllCertificates() {
	ctx := context.Background()
	var c *client.Client // as in the example of the package
	soon := client.CertificateFilter{Standing: client.StandingValid, NotAccount: client.AccountSystem, ExpiresUntil: time.Now().AddDate(0, 0, 30)}
	for certificate, err := range c.AllCertificates(ctx, soon) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(certificate.NotAfter, certificate.Identifiers, certificate.Issuer, certificate.Serial)
	}
}

// A renewal needs no token: the old key proves it.
func ExampleClient_Renew() {
	ctx := context.Background()
	var c *client.Client         // as in the example of the package; without Token
	var old *x509.Certificate    // in force
	var oldKey *ecdsa.PrivateKey // its key
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, new(x509.CertificateRequest), key) // the names stay as they are
	if err != nil {
		log.Fatal(err)
	}
	renewed, err := c.Renew(ctx, client.RenewRequest{CSR: csr, Certificate: old.Raw, Key: oldKey, RequestID: "web-2026-12"})
	if pending, ok := errors.AsType[*client.PendingError](err); ok {
		log.Fatalf("%v: ask again with the same RequestID", pending)
	} else if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", renewed.PEM)
}

// A mass revocation is planned, which revokes nothing, then started, and runs on the server. Whoever started it may go
// away.
func ExampleClient_StartJob() {
	ctx := context.Background()
	var c *client.Client // as in the example of the package
	plan, err := c.PlanJob(ctx, client.JobRequest{Selector: client.Selector{Where: "profile=server and issued>=2026-11-01"}, Reason: pki.Superseded, Comment: "ticket 4711"})
	if err != nil {
		log.Fatal(err)
	}
	if plan.Job.Authorities > 0 {
		log.Fatalf("%d of %d are certificates of CAs", plan.Job.Authorities, plan.Job.Selected)
	}
	job, err := c.StartJob(ctx, plan.Job.ID, 0)
	for err == nil && job.State == client.JobRunning {
		time.Sleep(time.Second)
		job, err = c.Job(ctx, job.ID)
	}
	if err != nil {
		log.Fatal(err)
	}
	if job.State != client.JobDone {
		log.Fatalf("the job is %s: %s", job.State, job.Failure)
	}
	for job.PublishedAt.IsZero() { // the last call was too short for it
		if job, err = c.AwaitJobPublished(ctx, job.ID); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(job.Revoked, "revoked, and published by every instance at", job.PublishedAt)
}

// A program that follows the audit log keeps the position of the last event that it has seen.
func ExampleClient_AllAuditEvents() {
	ctx := context.Background()
	var c *client.Client // as in the example of the package
	var seen uint64
	for {
		for event, err := range c.AllAuditEvents(ctx, client.AuditFilter{After: seen, PageSize: 1000}) {
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(event.Sequence, event.At, event.Actor, event.Action, event.Target, event.Outcome)
			seen = event.Sequence
		}
		time.Sleep(10 * time.Second)
	}
}
