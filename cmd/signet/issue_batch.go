package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"signet.example/signet/api/client"
	"signet.example/signet/internal/durable"
	"signet.example/signet/pki"
)

// aRequest is the term for a CSR in messages.
const aRequest = "certificate request"

// batchWindow is how many items are in progress at once.
const batchWindow = 128

// batchItem is one line: JSON has these fields, CSV these columns.
type batchItem struct {
	Names    []string `json:"names"`    // CSV: separated by spaces
	Profile  string   `json:"profile"`  // empty: that of the command line
	Lifetime string   `json:"lifetime"` // such as 30d; empty: that of the command line
	CSR      string   `json:"csr"`      // path of a request; empty: make a key and a request
	line     int
}

// batchResult is one line of the result file.
type batchResult struct {
	Line        int    `json:"line"`
	RequestID   string `json:"request_id,omitempty"`
	Certificate string `json:"certificate_file,omitempty"`
	Serial      string `json:"serial,omitempty"`
	Pending     string `json:"pending,omitempty"` // id of a request that waits for an approval
	Error       string `json:"error,omitempty"`
	Field       string `json:"field,omitempty"`
	Hint        string `json:"hint,omitempty"`
}

// batch issues the items of a file over one stream.
type batch struct {
	c       *issueCmd
	a       *app
	dir     string
	done    map[string]bool // request ids answered with a certificate in an earlier run
	results *os.File
	bar     *progress
	room    chan struct{}
	issuer  pki.IssuerID     // zero: the profile's
	seen    map[[16]byte]int // how often each item was read so far; used by the sending goroutine only

	mu              sync.Mutex // guards the rest, and results
	waiting         map[string]waitingItem
	issued, skipped int
	failed, pending int
	later           int      // failed for a reason that may pass
	reasons         []string // the first reasons given, each once, with a line
}

const maxReasons = 3 // failures that are shown; the results file has all

type waitingItem struct {
	line int
	path string // of the certificate
}

// batchSummary is what `signet issue --batch --output json` prints.
type batchSummary struct {
	Issued  int    `json:"issued"`
	Skipped int    `json:"skipped"` // issued in an earlier run
	Failed  int    `json:"failed"`
	Pending int    `json:"pending"` // filed, waiting for an approval
	Dir     string `json:"dir"`
	Results string `json:"results"`
}

const issueBatchOp = "issue batch"

func (c *issueCmd) runBatch(a *app) error {
	if len(c.Names) > 0 || c.CSR != "" || c.Key != "" || c.RequestID != "" || c.IfMissing {
		return pki.Errorf(pki.KindInvalid, issueBatchOp, "--batch takes names and requests from its file")
	}
	in, err := os.Open(c.Batch)
	if err != nil {
		return fileError(issueBatchOp, err)
	}
	defer in.Close()
	items, err := readItems(c.Batch, in)
	if err != nil {
		return err
	}
	b, err := c.openBatch(a)
	if err != nil {
		return err
	}
	defer b.results.Close()
	api, err := a.connect(c.serverFlags)
	if err != nil {
		return err
	}
	defer api.Close()
	if c.Profile == "" {
		if c.Profile, err = api.DefaultProfile(a.ctx); err != nil {
			return err
		}
	}
	if b.issuer, err = optionalIssuer(a, api, c.Issuer); err != nil {
		return err
	}
	if err := b.run(api, items); err != nil {
		return err
	}
	if err := b.summarise(); err != nil {
		return err
	}
	return b.outcome(b.results.Name())
}

// openBatch creates the directory of a batch and opens its results for appending.
func (c *issueCmd) openBatch(a *app) (*batch, error) {
	b := &batch{c: c, a: a, dir: c.Out, room: make(chan struct{}, batchWindow), waiting: map[string]waitingItem{}, seen: map[[16]byte]int{}}
	if b.dir == "" {
		b.dir = strings.TrimSuffix(c.Batch, filepath.Ext(c.Batch)) + ".out"
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return nil, fileError(issueBatchOp, err)
	}
	path := filepath.Join(b.dir, "results.jsonl")
	var err error
	if b.done, err = issuedBefore(path); err != nil {
		return nil, err
	}
	if b.results, err = os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return nil, fileError(issueBatchOp, err)
	}
	if err := endLine(b.results); err != nil {
		return nil, errors.Join(fileError(issueBatchOp, err), b.results.Close())
	}
	return b, nil
}

// summarise shows the results.
func (b *batch) summarise() error {
	return b.a.show(batchSummary{b.issued, b.skipped, b.failed, b.pending, b.dir, b.results.Name()}, func(p *printer) {
		p.line("issued %s, %d were there already, %d failed", counted(b.issued, "certificate"), b.skipped, b.failed)
		if b.pending > 0 {
			p.line("%d wait for an approval; run the same command again to collect them", b.pending)
		}
		for _, reason := range b.reasons {
			p.line("  %s", reason)
		}
		p.fields("files", b.dir, "results", b.results.Name())
	})
}

// outcome returns the error for the exit status.
func (b *batch) outcome(results string) error {
	if b.failed > 0 && b.later == b.failed {
		return pki.Errorf(pki.KindUnavailable, issueBatchOp, "%s failed, for a reason that may pass", counted(b.failed, "item")).
			WithHint("run the same command again: it continues where this one ended")
	}
	if b.failed > 0 {
		return pki.Errorf(pki.KindRefused, issueBatchOp, "%s failed", counted(b.failed, "item")).
			WithHint("%s says why, and what to do; then run the same command again: what was issued is not issued twice", results)
	}
	if b.pending > 0 {
		return answerNo("some items wait for an approval")
	}
	return nil
}

// run sends and receives at the same time. The first error of either side stops both.
func (b *batch) run(api *client.Client, items func() (batchItem, error)) error {
	ctx, cancel := context.WithCancelCause(b.a.ctx)
	defer cancel(nil)
	stream, err := api.IssueBatch(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	b.bar = b.a.progress("certificates", func() int { return countItems(b.c.Batch) })
	defer b.bar.done()
	sent := make(chan error, 1)
	go func() {
		err := b.sendAll(ctx, stream, items)
		if err != nil {
			cancel(err)
		}
		sent <- err
	}()
	received := b.receiveAll(stream)
	cancel(received)
	failed := <-sent
	if received != nil && (failed == nil || errors.Is(failed, io.EOF) || errors.Is(failed, context.Canceled)) {
		failed = received
	}
	if b.a.ctx.Err() != nil {
		return pki.Errorf(pki.KindUnavailable, issueBatchOp, "%s so far", counted(b.issued, "certificate")).
			WithHint("run the same command again: it continues where this one ended")
	}
	if failed != nil && pki.KindOf(failed) == pki.KindUnavailable {
		return pki.Errorf(pki.KindUnavailable, issueBatchOp, "%w", failed).
			WithHint("run the same command again: it continues where this one ended")
	}
	return failed
}

func (b *batch) sendAll(ctx context.Context, stream *client.Batch, next func() (batchItem, error)) error {
	for {
		item, err := next()
		if errors.Is(err, io.EOF) {
			return stream.EndOfItems()
		}
		var q client.IssueRequest
		var stem string
		if err == nil {
			q, stem, err = b.request(item)
		}
		if err != nil {
			if item.line == 0 { // the rest of the file cannot be read
				return err
			}
			if err := b.fail(item.line, "", err); err != nil {
				return err
			}
			continue
		}
		if b.done[q.RequestID] {
			b.mu.Lock()
			b.skipped++
			b.mu.Unlock()
			b.bar.add(1)
			continue
		}
		select {
		case b.room <- struct{}{}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		b.mu.Lock()
		b.waiting[q.RequestID] = waitingItem{item.line, stem + ".pem"}
		b.mu.Unlock()
		if err := stream.Send(q); err != nil {
			return err
		}
	}
}

func (b *batch) receiveAll(stream *client.Batch) error {
	for {
		r, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		b.mu.Lock()
		item, ok := b.waiting[r.RequestID]
		delete(b.waiting, r.RequestID)
		b.mu.Unlock()
		if !ok {
			return pki.Errorf(pki.KindInternal, issueBatchOp, "the server answered an item that was not sent")
		}
		if err := b.settle(item, r); err != nil {
			return err
		}
		<-b.room
	}
}

// settle writes the certificate before the result: if the results say issued, the certificate is there.
func (b *batch) settle(item waitingItem, r client.IssueResult) error {
	if pending, ok := errors.AsType[*client.PendingError](r.Err); ok {
		b.mu.Lock()
		b.pending++
		b.mu.Unlock()
		return b.write(batchResult{Line: item.line, RequestID: r.RequestID, Pending: pending.Request.ID})
	}
	if r.Err != nil {
		return b.fail(item.line, r.RequestID, r.Err)
	}
	if err := durable.Replace(item.path, r.Issued.PEM, 0o644); err != nil {
		return fileError(issueBatchOp, err)
	}
	b.mu.Lock()
	b.issued++
	b.mu.Unlock()
	return b.write(batchResult{Line: item.line, RequestID: r.RequestID, Certificate: item.path, Serial: r.Issued.Certificate.Serial.String()})
}

func (b *batch) fail(line int, id string, err error) error {
	b.mu.Lock()
	if b.failed++; exitStatus(pki.KindOf(err)) == exitUnavailable {
		b.later++
	}
	told := func(reason string) bool { return strings.HasSuffix(reason, ": "+err.Error()) }
	if len(b.reasons) < maxReasons && !slices.ContainsFunc(b.reasons, told) {
		b.reasons = append(b.reasons, fmt.Sprintf("line %d: %v", line, err))
	}
	b.mu.Unlock()
	result := batchResult{Line: line, RequestID: id, Error: err.Error(), Hint: hintOf(err)}
	if e, ok := errors.AsType[*pki.Error](err); ok {
		result.Field = e.Field
	}
	return b.write(result)
}

func (b *batch) write(r batchResult) error {
	text, err := json.Marshal(r)
	if err != nil {
		return pki.Errorf(pki.KindInternal, issueBatchOp, "%w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, err := b.results.Write(append(text, '\n')); err != nil {
		return fileError(issueBatchOp, err)
	}
	b.bar.add(1)
	return nil
}

// request returns the request for an item and the path of its files without extension. Both depend on the item's
// content, not on its line, so lines may be added or removed between two runs. A key and a request from an earlier run
// are used again, and the request id is the same.
func (b *batch) request(item batchItem) (q client.IssueRequest, stem string, err error) {
	names, err := parseNames(item.Names)
	if err != nil {
		return q, "", err
	}
	q = client.IssueRequest{Profile: b.c.Profile, Issuer: b.issuer, Identifiers: texts(names), Lifetime: time.Duration(b.c.Lifetime)}
	if item.Profile != "" {
		q.Profile = item.Profile
	}
	if item.Lifetime != "" {
		var d duration
		if err := d.UnmarshalText([]byte(item.Lifetime)); err != nil {
			return q, "", &pki.Error{Kind: pki.KindInvalid, Op: "read item", Field: "lifetime", Err: err}
		}
		q.Lifetime = time.Duration(d)
	}
	if item.CSR != "" {
		csr, err := b.a.readRequest(item.CSR)
		if err != nil {
			return q, "", err
		}
		q.CSR = csr.Raw
	}
	wish := b.nth(q)
	stem = filepath.Join(b.dir, fmt.Sprintf("%s-%x", batchName(names), wish[:8]))
	if item.CSR == "" {
		if q.CSR, err = b.csr(stem, names); err != nil {
			return q, "", err
		}
	}
	digest := sha256.Sum256(append(wish[:], q.CSR...))
	q.RequestID = "batch-" + hex.EncodeToString(digest[:16])
	return q, stem, nil
}

// nth returns a digest of an item's content and of how often it occurred before. Equal items differ in nothing else,
// and each gets a certificate.
func (b *batch) nth(q client.IssueRequest) [sha256.Size]byte {
	wish := fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%s", q.Profile, strings.Join(q.Identifiers, " "), q.Lifetime, q.Issuer, q.CSR)
	digest := sha256.Sum256([]byte(wish))
	key := [16]byte(digest[:])
	b.seen[key]++
	return sha256.Sum256(fmt.Appendf(digest[:], "\x00%d", b.seen[key]))
}

// batchName returns the readable beginning of the names of an item's files; the rest of the name tells items apart.
func batchName(names []pki.Identifier) string {
	if len(names) == 0 {
		return "request"
	}
	first := fileStem(names[0])
	return first[:min(len(first), 64)]
}

// csr returns the request of an item that has none, with a new key.
func (b *batch) csr(stem string, names []pki.Identifier) ([]byte, error) {
	if len(names) == 0 {
		return nil, pki.Errorf(pki.KindInvalid, "read item", "neither names nor a request").InField("names")
	}
	if !missing(stem + ".csr") {
		return b.a.readDER(stem+".csr", aRequest, "CERTIFICATE REQUEST")
	}
	flags := b.c.keyFlags
	if !missing(stem + ".key") { // a run ended between the two files
		flags.Key = stem + ".key"
	}
	key, err := flags.open(stem + ".key")
	if err != nil {
		return nil, err
	}
	der, err := key.request(flags.CommonName, names)
	if err != nil {
		return nil, errors.Join(err, key.undo())
	}
	return der, durable.WriteNew(stem+".csr", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), 0o644)
}

// issuedBefore returns the request ids that an earlier run's results call issued. It ignores a line cut short by a
// crash.
func issuedBefore(path string) (map[string]bool, error) {
	done := map[string]bool{}
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return done, nil
	}
	if err != nil {
		return nil, fileError("read results", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r batchResult
		if json.Unmarshal(lines.Bytes(), &r) == nil && r.Serial != "" && !missing(r.Certificate) {
			done[r.RequestID] = true
		}
	}
	return done, lines.Err()
}

// endLine completes a last line that was cut short, so that it does not merge with the next.
func endLine(file *os.File) error {
	info, err := file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	var last [1]byte
	if _, err := file.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = file.Write([]byte{'\n'})
	return err
}

// readItems reads a CSV file with a header, or JSON lines, depending on the file's name. An error with a line is about
// that item; reading can continue.
func readItems(path string, in io.Reader) (next func() (batchItem, error), err error) {
	if strings.HasSuffix(path, ".jsonl") || strings.HasSuffix(path, ".ndjson") {
		return readLines(in), nil
	}
	return readTable(path, in)
}

// countItems returns how many items a file has; -1 if it can be read only once.
func countItems(path string) (n int) {
	in, err := os.Open(path)
	if err != nil {
		return -1
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || !info.Mode().IsRegular() {
		return -1
	}
	next, err := readItems(path, in)
	if err != nil {
		return -1
	}
	for {
		switch item, err := next(); {
		case errors.Is(err, io.EOF):
			return n
		case err != nil && item.line == 0:
			return -1
		}
		n++
	}
}

const readBatchOp = "read batch"

func readLines(in io.Reader) (next func() (batchItem, error)) {
	lines, n := bufio.NewScanner(in), 0
	lines.Buffer(nil, 1<<20)
	return func() (batchItem, error) {
		for lines.Scan() {
			n++
			if len(strings.TrimSpace(lines.Text())) == 0 {
				continue
			}
			item := batchItem{}
			dec := json.NewDecoder(strings.NewReader(lines.Text()))
			dec.DisallowUnknownFields()
			err := dec.Decode(&item)
			item.line = n
			if err != nil {
				return item, pki.Errorf(pki.KindInvalid, readBatchOp, "line %d: %w", n, err)
			}
			return item, nil
		}
		if err := lines.Err(); err != nil {
			return batchItem{}, pki.Errorf(pki.KindInvalid, readBatchOp, "line %d: %w", n+1, err)
		}
		return batchItem{}, io.EOF
	}
}

func readTable(path string, in io.Reader) (next func() (batchItem, error), err error) {
	columns := map[string]func(*batchItem, string){
		"names":    func(i *batchItem, value string) { i.Names = strings.Fields(value) },
		"profile":  func(i *batchItem, value string) { i.Profile = value },
		"lifetime": func(i *batchItem, value string) { i.Lifetime = value },
		"csr":      func(i *batchItem, value string) { i.CSR = value },
	}
	const hint = "the first line names the columns: names, profile, lifetime, csr"
	table := csv.NewReader(in)
	table.FieldsPerRecord = -1
	header, err := table.Read()
	if errors.Is(err, io.EOF) {
		return nil, pki.Errorf(pki.KindInvalid, readBatchOp, "%s is empty", path).WithHint(hint)
	}
	if err != nil {
		return nil, pki.Errorf(pki.KindInvalid, readBatchOp, "header: %w", err)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // a byte order mark, as spreadsheets write
	for _, column := range header {
		if columns[column] == nil {
			return nil, pki.Errorf(pki.KindInvalid, readBatchOp, "%s: there is no column %q", path, column).WithHint(hint)
		}
	}
	return func() (batchItem, error) {
		record, err := table.Read()
		if bad, ok := errors.AsType[*csv.ParseError](err); ok {
			return batchItem{line: bad.StartLine}, pki.Errorf(pki.KindInvalid, readBatchOp, "%w", err)
		}
		if err != nil {
			return batchItem{}, err
		}
		item := batchItem{}
		item.line, _ = table.FieldPos(0)
		if len(record) != len(header) {
			return item, pki.Errorf(pki.KindInvalid, readBatchOp, "line %d: %d columns, the header has %d", item.line, len(record), len(header))
		}
		for i, value := range record {
			columns[header[i]](&item, value)
		}
		return item, nil
	}, nil
}
