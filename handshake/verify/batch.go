package verify

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// MaxLine is the largest size of one line of a batch, in octets. A longer line is answered as input that does not
// parse.
const MaxLine = 64 << 20

// Batch reads Cases as JSON lines and writes their Results as JSON lines, in the same order. It judges several cases at
// once. A line that is not a case gets a Result like any other input that does not parse. The error is about reading or
// writing; the Results written before it are valid.
func Batch(in io.Reader, out io.Writer) error {
	// Each line gets a place in the queue, in order. A worker puts the answer there.
	type place chan []byte
	workers := runtime.GOMAXPROCS(0)
	queue := make(chan place, 4*workers)
	tokens := make(chan struct{}, workers)
	var readErr error
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		defer close(queue)
		readErr = eachLine(in, func(line []byte) bool {
			answer := make(place, 1)
			select {
			case queue <- answer:
			case <-stop:
				return false
			}
			tokens <- struct{}{}
			go func() {
				defer func() { <-tokens }()
				answer <- judgeLine(line)
			}()
			return true
		})
	})
	writer := bufio.NewWriter(out)
	writeErr := func() error {
		for answer := range queue {
			if _, err := writer.Write(<-answer); err != nil {
				return err
			}
			if len(queue) == 0 {
				// A client that sends one line at a time gets each answer at once.
				if err := writer.Flush(); err != nil {
					return err
				}
			}
		}
		return nil
	}()
	close(stop)
	wg.Wait()
	return errors.Join(readErr, writeErr, writer.Flush())
}

// eachLine calls use with a copy of every line that is not empty, until use returns false. A line that is too long is
// cut to MaxLine+1 octets.
func eachLine(in io.Reader, use func([]byte) bool) error {
	reader := bufio.NewReaderSize(in, 1<<16)
	for {
		line, err := readLine(reader)
		if err != nil && err != io.EOF {
			return fmt.Errorf("read batch: %w", err)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 && !use(line) || err == io.EOF {
			return nil
		}
	}
}

func readLine(reader *bufio.Reader) (line []byte, err error) {
	for {
		part, err := reader.ReadSlice('\n')
		line = append(line, part[:min(len(part), MaxLine+1-len(line))]...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

func judgeLine(line []byte) []byte {
	var c Case
	var result Result
	err := fmt.Errorf("it is longer than %d octets", MaxLine)
	if len(line) <= MaxLine {
		err = json.Unmarshal(line, &c)
	}
	if err == nil {
		result = judgeGuarded(&c)
	} else {
		result = faultf(ClassParse, "the case does not parse: %v", err).result(c.Kind.undecided())
		result.ID, result.PerCert = idOf(line), []CertificateStatus{}
	}
	text, err := json.Marshal(result)
	if err != nil {
		text = []byte(`{"result":"reject","error_class":"parse","detail":"the result does not encode","per_cert":[]}`)
	}
	return append(text, '\n')
}

// idOf returns the id of a line that is not a case, if the id stands before the fault; otherwise nil.
func idOf(line []byte) (id json.RawMessage) {
	decoder := json.NewDecoder(bytes.NewReader(line))
	if first, err := decoder.Token(); err != nil || first != json.Delim('{') {
		return nil
	}
	for decoder.More() {
		var value json.RawMessage
		name, err := decoder.Token()
		if err != nil || decoder.Decode(&value) != nil {
			return nil
		}
		if name == "id" {
			return value
		}
	}
	return nil
}

// judgeGuarded judges a case. A panic, which would be a bug here or in the standard library, refuses this case only and
// does not end the batch.
func judgeGuarded(c *Case) (result Result) {
	defer func() {
		if trouble := recover(); trouble != nil {
			result = faultf(ClassUnsupported, "internal fault: %v", trouble).result(c.Kind.undecided())
			result.ID, result.PerCert = c.ID, []CertificateStatus{}
		}
	}()
	return Judge(c)
}
