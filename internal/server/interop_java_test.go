package server_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// deaf is a responder that does not exist: an answer read with it was stapled.
const deaf = " options=NO_FALLBACK,ONLY_END_ENTITY responder=http://127.0.0.1:1/"

// javaReaders: PKIXRevocationChecker refuses what it cannot determine, unless it is told otherwise.
var javaReaders = []reader{
	{name: "Java: PKIXRevocationChecker, OCSP by GET", chain: true, ocsp: true, ask: javaValidate("get", "options=NO_FALLBACK")},
	{name: "Java: PKIXRevocationChecker, OCSP by POST", chain: true, ocsp: true, ask: javaValidate("post", "options=NO_FALLBACK")},
	{name: "Java: PKIXRevocationChecker, OCSP with a nonce", chain: true, ocsp: true, ask: javaValidate("get", "options=NO_FALLBACK nonce=true")},
	{name: "Java: PKIXRevocationChecker, as it comes", chain: true, ocsp: true, ask: javaValidate("get", "")},
	{name: "Java: PKIXRevocationChecker, PREFER_CRLS", chain: true, ask: javaValidate("get", "options=PREFER_CRLS,NO_FALLBACK")},
	{name: "Java: PKIXRevocationChecker, SOFT_FAIL", chain: true, ocsp: true, ask: javaValidate("get", "options=SOFT_FAIL")},
	{name: "Java: PKIXRevocationChecker, lists at hand", chain: true, ask: javaValidate("get", "options=PREFER_CRLS,NO_FALLBACK crls=completes.pem")},
	{name: "Java: com.sun.security.enableCRLDP", chain: true, ask: javaValidate("get", "crldp=true")},
	{name: "Java: PKIXRevocationChecker, setOcspResponses", ocsp: true, ask: func(j *judge, s *subject) opinion {
		j.staple(s)
		return javaValidate("get", "staple=staple.der"+deaf)(j, s)
	}},
	{name: "Java: SSLSocket, OCSP and CRL", chain: true, ocsp: true, ask: func(j *judge, s *subject) opinion {
		return j.askJava("get", "connect root=root.pem port="+s.port(s.bare))
	}},
	{name: "Java: SSLSocket, stapled, TLS 1.3", staples: true, ask: func(j *judge, s *subject) opinion {
		return j.askJava("get", "connect root=root.pem protocol=TLSv1.3 port="+s.port(s.stapled)+deaf)
	}},
	{name: "Java: SSLSocket, stapled, TLS 1.2", staples: true, ask: func(j *judge, s *subject) opinion {
		return j.askJava("get", "connect root=root.pem protocol=TLSv1.2 port="+s.port(s.stapled)+deaf)
	}},
	{name: "Java: HttpsURLConnection, checkRevocation, CRL", chain: true, ask: func(j *judge, s *subject) opinion {
		return j.askJava("get", "fetch root=root.pem ocsp=false port="+s.port(s.bare))
	}},
	{name: "Java: HttpsURLConnection, checkRevocation, OCSP", chain: true, ocsp: true, ask: func(j *judge, s *subject) opinion {
		return j.askJava("get", "fetch root=root.pem ocsp=true port="+s.port(s.bare))
	}},
	{name: "Java: keytool -printcrl", ask: keytool},
}

// keytool verifies a list by the certificates of a key store.
func keytool(j *judge, s *subject) opinion {
	store := []string{"-keystore", "issuing.p12", "-storepass", "changeit"}
	if !j.exists("issuing.p12") {
		j.must("keytool", append(store, "-importcert", "-noprompt", "-alias", "issuing", "-file", "issuing.pem")...)
	}
	out, ok := j.run("keytool", append(store, "-printcrl", "-file", "shard.crl")...)
	_, entry, listed := strings.Cut(strings.ReplaceAll(out, ":", ""), "SerialNumber "+s.record.Serial.String())
	_, reason, _ := strings.Cut(entry, "Reason Code ")
	reason, _, _ = strings.Cut(strings.TrimSpace(reason), "\n")
	switch {
	case !ok || !strings.Contains(out, "Verified by issuing in keystore"):
		return opinion{said: nothing, output: out}
	case listed:
		return opinion{said: revoked, reason: reason, output: out}
	}
	return opinion{said: good, output: out}
}

func javaValidate(process, options string) func(*judge, *subject) opinion {
	return func(j *judge, s *subject) opinion {
		method := map[string]string{"get": "GET", "post": "POST"}[process]
		before := j.front.asked(method)
		said := j.askJava(process, "validate root=root.pem chain="+s.name+"-chain.pem "+options)
		if options == "options=NO_FALLBACK" && j.front.asked(method) == before {
			j.t.Errorf("Java sent no %s", method)
		}
		return said
	}
}

// javaProcess is a running testdata/Judge.java.
type javaProcess struct {
	in  io.WriteCloser
	out *bufio.Reader
}

// startJava starts a virtual machine, in place of the one of that name: Java keeps lists for 30 seconds, so each stage
// has its own.
func (j *judge) startJava(name string, options ...string) {
	j.t.Helper()
	if !j.exists("Judge.class") {
		source, err := filepath.Abs(filepath.Join("testdata", "Judge.java"))
		if err != nil {
			j.t.Fatal(err)
		}
		j.must("javac", "-Xlint:all", "-Werror", "-d", ".", source)
	}
	args := append([]string{"-Xshare:auto", "-XX:TieredStopAtLevel=1", "-Djdk.tls.server.enableStatusRequestExtension=true", "-Dcom.sun.security.enableCRLDP=true", "-Dcom.sun.net.ssl.checkRevocation=true"}, options...)
	cmd := j.program("java", append(args, "-cp", ".", "Judge")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		j.t.Fatal(err)
	}
	log, err := os.Create(j.path("java-" + name + ".log"))
	if err != nil {
		j.t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		j.t.Fatal(err)
	}
	t := j.t
	t.Cleanup(func() {
		in.Close() // it ends with its input
		late := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("Java ended with %v", err)
		}
		log.Close()
		if text, _ := os.ReadFile(log.Name()); t.Failed() && len(text) > 0 {
			t.Logf("Java's log:\n%s", text)
		}
	})
	j.java[name] = &javaProcess{in, bufio.NewReader(out)}
}

// askJava asks one question.
func (j *judge) askJava(process, question string) opinion {
	j.t.Helper()
	line := j.java[process].ask(j, question)
	word0, rest, _ := strings.Cut(line, " ")
	said := opinion{said: nothing, output: question + "\n" + line}
	switch word(word0) {
	case good:
		said.said = good
	case revoked:
		said.said, said.reason = revoked, rest
	}
	return said
}

func (p *javaProcess) ask(j *judge, question string) string {
	j.t.Helper()
	if _, err := fmt.Fprintln(p.in, question); err != nil {
		j.t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		j.t.Fatalf("Java answers %q with %q: %v", question, line, err)
	}
	return strings.TrimSpace(line)
}

// javaServer is an SSLServerSocket with the PKCS #12 file that `signet export` makes. Java fetches the staple itself.
func (j *judge) javaServer(s *subject) string {
	j.t.Helper()
	if file := s.name + ".p12"; !j.exists(file) {
		j.write("password", []byte("trout and 9 bells\n"))
		if status, out := j.site.run(j.t, "export", j.path(s.name+"-chain.pem"), "--pkcs12", "--key", j.path(s.name+".key"), "--password-file", j.path("password"), "--out", j.path(file)); status != 0 {
			j.t.Fatal(out)
		}
	}
	port := j.java["get"].ask(j, "serve store="+s.name+".p12 passwordfile=password")
	return "localhost:" + port
}
