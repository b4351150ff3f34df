package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/ocsp"
	"signet.example/signet/pki"
)

// answering measures OCSP from outside with wrk, on the processors that it shares with the server: answers from memory
// against nginx serving the same octets as a static file, and answers that are signed one by one against bare signatures.
func answering(ctx context.Context, b *bench) (err error) {
	s, err := b.newSite(ctx, "ocsp", "sqlite")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	signing, err := signatures(ctx, b)
	if err != nil {
		return err
	}
	leaf, issuing, err := s.issueOne(ctx)
	if err != nil {
		return err
	}
	issuer, err := ocsp.IssuerOf(issuing)
	if err != nil {
		return err
	}
	serial, err := ocsp.SerialOf(leaf)
	if err != nil {
		return err
	}
	der, err := ocsp.NewRequest(issuer.CertID(crypto.SHA1, serial)).Marshal()
	if err != nil {
		return err
	}
	address, _ := ocsp.URL(leaf.OCSPServer[0], der)
	static, err := b.serveStatic(ctx, address)
	if err != nil {
		return err
	}
	defer static.stop()
	found, err := b.wrk(ctx, wrkLoad{name: "limit/nginx-static", url: static.url, pid: static.cmd.Process.Pid})
	if err != nil {
		return err
	}
	nginx := &limit{Name: found.Name, Value: found.Value}
	if _, err := b.wrk(ctx, wrkLoad{name: "ocsp/get-from-memory/c32", url: address, pid: s.pid(), limit: nginx, target: 0.8 * nginx.Value}); err != nil {
		return err
	}
	script, err := b.neverIssued(issuer, leaf.OCSPServer[0])
	if err != nil {
		return err
	}
	_, err = b.wrk(ctx, wrkLoad{name: "ocsp/get-signed-on-demand/c32", url: leaf.OCSPServer[0], script: script, pid: s.pid(), limit: signing, target: 12_000})
	return err
}

// issueOne returns a new certificate and the certificate of its issuer.
func (s *site) issueOne(ctx context.Context) (leaf, issuing *x509.Certificate, err error) {
	csrs, err := requests(1)
	if err != nil {
		return nil, nil, err
	}
	issued, err := s.api.Issue(ctx, client.IssueRequest{CSR: csrs[0], Profile: "server", Identifiers: []string{"ocsp.example"}})
	if err != nil {
		return nil, nil, err
	}
	var chain []*x509.Certificate
	for _, der := range pki.CertificatesInPEM(issued.PEM) {
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, err
		}
		chain = append(chain, certificate)
	}
	if len(chain) < 2 || len(chain[0].OCSPServer) == 0 {
		return nil, nil, errors.New("the certificate came without its issuer or without an OCSP address")
	}
	return chain[0], chain[1], nil
}

// neverIssued writes a script that asks for serial numbers that were never issued: their answers are signed each time.
func (b *bench) neverIssued(issuer ocsp.Issuer, responder string) (string, error) {
	base, err := url.Parse(responder)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.WriteString("local paths = {\n")
	for range 4096 {
		serial := make([]byte, 20)
		if _, err := rand.Read(serial); err != nil {
			return "", err
		}
		serial[0] = 0x42
		der, err := ocsp.NewRequest(issuer.CertID(crypto.SHA1, serial)).Marshal()
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&text, "%q,\n", base.Path+"/"+url.QueryEscape(base64.StdEncoding.EncodeToString(der)))
	}
	text.WriteString("}\nlocal n = 0\nrequest = function() n = n + 1; return wrk.format('GET', paths[n % #paths + 1]) end\n")
	path := filepath.Join(b.dir, "never-issued.lua")
	return path, os.WriteFile(path, []byte(text.String()), 0o600)
}

// static is nginx with one file.
type static struct {
	cmd *exec.Cmd
	url string
}

func (s *static) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGQUIT) // it ends with us in any case
	_ = s.cmd.Wait()
}

// serveStatic has nginx serve the answer of the address, with the same headers.
func (b *bench) serveStatic(ctx context.Context, address string) (*static, error) {
	answer, err := http.Get(address)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %v", address, answer.Status, err)
	}
	dir := filepath.Join(b.dir, "nginx")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	listen := free.Addr().String()
	if err := free.Close(); err != nil {
		return nil, err
	}
	config := strings.NewReplacer("DIR", dir, "LISTEN", listen, "CACHE", answer.Header.Get("Cache-Control"), "ENDS", answer.Header.Get("Expires")).Replace(`
daemon off; worker_processes auto; user root; pid DIR/pid; error_log DIR/errors;
events { worker_connections 1024; }
http {
	access_log off; open_file_cache max=16; keepalive_requests 1000000000;
	client_body_temp_path DIR/1; proxy_temp_path DIR/2; fastcgi_temp_path DIR/3; uwsgi_temp_path DIR/4; scgi_temp_path DIR/5;
	server {
		listen LISTEN; root DIR;
		location = /answer { default_type application/ocsp-response; add_header Cache-Control "CACHE"; add_header Expires "ENDS"; }
	}
}
`)
	if os.Getuid() != 0 {
		config = strings.Replace(config, "user root; ", "", 1)
	}
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "answer"), body, 0o644), os.WriteFile(filepath.Join(dir, "conf"), []byte(config), 0o644)); err != nil {
		return nil, err
	}
	s := &static{exec.CommandContext(ctx, "nginx", "-p", dir, "-c", filepath.Join(dir, "conf")), "http://" + listen + "/answer"}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for range 100 {
		if answer, err := http.Get(s.url); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK && answer.ContentLength == int64(len(body)) {
				return s, nil
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("nginx does not serve: see %s/errors", dir)
}

// wrkLoad is a case that wrk drives: one thread, 32 connections that are kept.
type wrkLoad struct {
	name, url, script string
	pid               int // of the process under test, children included
	limit             *limit
	target            float64
}

// wrk warms up, runs the load three times, and adds the median to the report.
func (b *bench) wrk(ctx context.Context, l wrkLoad) (result, error) {
	seconds := 10
	if b.quick {
		seconds = 3
	}
	if _, err := wrkOnce(ctx, l, 1); err != nil {
		return result{}, fmt.Errorf("%s: warm-up: %w", l.name, err)
	}
	var runs []result
	for range rounds {
		r, err := wrkOnce(ctx, l, seconds)
		if err != nil {
			return result{}, fmt.Errorf("%s: %w", l.name, err)
		}
		runs = append(runs, r)
	}
	slices.SortFunc(runs, func(x, y result) int { return cmp.Compare(x.Value, y.Value) })
	r := runs[rounds/2]
	r.Spread = [2]float64{runs[0].Value, runs[rounds-1].Value}
	r.Target, r.Limit = l.target, l.limit
	if l.limit != nil {
		r.Ratio = r.Value / l.limit.Value
	}
	b.add(r)
	return r, nil
}

// What wrk prints: "  123456 requests in 10.00s, 94.19MB read", "     50%  210.00us".
var (
	wrkCount   = regexp.MustCompile(`(\d+) requests in ([\d.]+)s`)
	wrkLatency = regexp.MustCompile(`(50|99)%\s+([\d.]+)(us|ms|s)`)
)

func wrkOnce(ctx context.Context, l wrkLoad, seconds int) (result, error) {
	args := []string{"-t1", "-c32", "-d" + strconv.Itoa(seconds) + "s", "--latency"}
	if l.script != "" {
		args = append(args, "-s", l.script)
	}
	before := cpuOfTree(l.pid)
	out, err := exec.CommandContext(ctx, "wrk", append(args, l.url)...).CombinedOutput()
	spent := cpuOfTree(l.pid) - before
	count := wrkCount.FindSubmatch(out)
	if err != nil || count == nil || strings.Contains(string(out), "Non-2xx") || strings.Contains(string(out), "Socket errors") {
		return result{}, fmt.Errorf("wrk: %v\n%s", err, out)
	}
	n, _ := strconv.ParseFloat(string(count[1]), 64) // the expression lets numbers through only
	elapsed, _ := strconv.ParseFloat(string(count[2]), 64)
	r := result{Name: l.name, Unit: "1/s", Value: n / elapsed, ServerCPU: float64(spent.Microseconds()) / n, RSS: rssOf(l.pid)}
	for _, found := range wrkLatency.FindAllSubmatch(out, -1) {
		value, _ := strconv.ParseFloat(string(found[2]), 64)
		value *= map[string]float64{"us": 0.001, "ms": 1, "s": 1000}[string(found[3])]
		if string(found[1]) == "50" {
			r.P50 = value
		} else {
			r.P99 = value
		}
	}
	return r, nil
}
