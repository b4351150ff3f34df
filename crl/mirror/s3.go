package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"signet.example/signet/crl"
	"signet.example/signet/pki"
)

// S3Config says where a bucket is.
type S3Config struct {
	Endpoint  string           // "https://s3.eu-central-1.amazonaws.com"; the bucket goes into the path. Required.
	Region    string           // empty: "us-east-1", which most other implementations accept
	Bucket    string           // required
	Prefix    string           // prefix of all names, such as "pki/"; empty: none
	AccessKey string           // required
	SecretKey string           // required; never logged
	Session   string           // session token of temporary credentials; empty: none
	MaxAge    time.Duration    // max-age of Cache-Control. Zero: 5 minutes.
	Client    *http.Client     // nil: http.DefaultClient
	Now       func() time.Time // nil: time.Now
}

// S3 is a bucket of an S3-compatible object store. Objects carry the CRL number and are replaced by compare-and-swap
// on their entity tag, so that any number of instances may write and a larger number is never replaced by a smaller
// one. The store must honour If-Match and If-None-Match on PUT. An S3 is safe for concurrent use.
type S3 struct{ config S3Config }

// NewS3 checks the configuration. It does not contact the store. Errors are of KindInvalid.
func NewS3(config S3Config) (*S3, error) {
	const op = "make S3 mirror"
	if config.Endpoint == "" || config.Bucket == "" || config.AccessKey == "" || config.SecretKey == "" {
		return nil, pki.Errorf(pki.KindInvalid, op, "endpoint, bucket, access key and secret key are required")
	}
	u, err := url.Parse(config.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, pki.Errorf(pki.KindInvalid, op, "endpoint %q: want an http or https URL", config.Endpoint).InField("endpoint")
	}
	config.Endpoint = strings.TrimSuffix(config.Endpoint, "/")
	config.Region = cmp.Or(config.Region, "us-east-1")
	config.MaxAge = cmp.Or(config.MaxAge, 5*time.Minute)
	if config.Client == nil {
		config.Client = http.DefaultClient
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &S3{config}, nil
}

// String returns the endpoint and the bucket.
func (s *S3) String() string { return s.config.Endpoint + "/" + s.config.Bucket }

// numberHeader is the header that carries the CRL number of an object.
const numberHeader = "X-Amz-Meta-Signet-Crl-Number"

// swaps is how many races in a row may be lost before that counts as a failure.
const swaps = 5

// Put stores a list unless the object has the same or a larger number.
func (s *S3) Put(ctx context.Context, name string, document crl.Document, number uint64) error {
	header := http.Header{"Content-Type": {"application/pkix-crl"}, numberHeader: {strconv.FormatUint(number, 10)}}
	return s.replace(ctx, name, func(old http.Header) (crl.Document, http.Header, error) {
		// An object that another program wrote has no number, and is replaced.
		if has, err := strconv.ParseUint(old.Get(numberHeader), 10, 64); err == nil && has >= number {
			return nil, nil, nil
		}
		return document, header, nil
	})
}

// sumHeader is the header that carries the SHA-256 of an index.
const sumHeader = "X-Amz-Meta-Signet-Sum"

// PutIndex stores an index of the objects in its folder. It asks for the entity tag of the index before it asks for
// the names, so that it does not replace an index that was made from newer names.
func (s *S3) PutIndex(ctx context.Context, name string, of func(names []string) ([]byte, error)) error {
	return s.replace(ctx, name, func(old http.Header) (crl.Document, http.Header, error) {
		names, err := s.below(ctx, path.Dir(name)+"/")
		if err != nil {
			return nil, nil, err
		}
		body, err := of(names)
		if err != nil {
			return nil, nil, err
		}
		digest := sha256.Sum256(body)
		sum := hex.EncodeToString(digest[:])
		if old.Get(sumHeader) == sum {
			return nil, nil, nil
		}
		return crl.Document{body}, http.Header{"Content-Type": {"application/json"}, sumHeader: {sum}}, nil
	})
}

// replace writes an object by compare-and-swap. It calls next with the headers of the present object, nil if there is
// none. next returns the new object with its headers, or a nil document if the present one should stay.
func (s *S3) replace(ctx context.Context, name string, next func(old http.Header) (crl.Document, http.Header, error)) error {
	for range swaps {
		tag, old, err := s.stat(ctx, name)
		if err != nil {
			return err
		}
		document, header, err := next(old)
		if err != nil || document == nil {
			return err
		}
		swapped, err := s.swap(ctx, name, document, header, tag)
		if err != nil || swapped {
			return err
		}
	}
	return fmt.Errorf("put %s: lost %d races in a row", name, swaps)
}

// stat returns the entity tag and the headers of an object; the tag is empty if there is none.
func (s *S3) stat(ctx context.Context, name string) (tag string, header http.Header, err error) {
	response, err := s.call(ctx, http.MethodHead, s.object(name), nil, emptySum, nil)
	if err != nil {
		return "", nil, err
	}
	switch response.StatusCode {
	case http.StatusNotFound:
		return "", nil, nil
	case http.StatusOK:
		if tag = response.Header.Get("ETag"); tag == "" {
			return "", nil, fmt.Errorf("head %s: the store gives no entity tag", name)
		}
		return tag, response.Header, nil
	}
	return "", nil, fmt.Errorf("head %s: %s", name, response.Status)
}

// swap writes an object if it still has the tag, or is still absent if the tag is empty.
func (s *S3) swap(ctx context.Context, name string, document crl.Document, header http.Header, tag string) (bool, error) {
	header = header.Clone() // the conditions are for this attempt only
	header.Set("Cache-Control", fmt.Sprintf("public, max-age=%d, must-revalidate", int(s.config.MaxAge/time.Second)))
	if tag == "" {
		header.Set("If-None-Match", "*")
	} else {
		header.Set("If-Match", tag)
	}
	digest := sha256.New()
	if _, err := io.Copy(digest, document.Reader()); err != nil {
		return false, err
	}
	response, err := s.call(ctx, http.MethodPut, s.object(name), header, hex.EncodeToString(digest.Sum(nil)), document)
	if err != nil {
		return false, err
	}
	switch response.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return true, nil
	case http.StatusPreconditionFailed, http.StatusConflict, http.StatusNotFound: // 404: removed between HEAD and PUT
		return false, nil
	}
	return false, fmt.Errorf("put %s: %s", name, response.Status)
}

// Remove removes an object.
func (s *S3) Remove(ctx context.Context, name string) error {
	response, err := s.call(ctx, http.MethodDelete, s.object(name), nil, emptySum, nil)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 && response.StatusCode != http.StatusNotFound {
		return fmt.Errorf("delete %s: %s", name, response.Status)
	}
	return nil
}

// Names returns the names of the objects of all issuers.
func (s *S3) Names(ctx context.Context) ([]string, error) { return s.below(ctx, "crl/") }

// below returns the names of the objects with a prefix. It asks for a thousand at a time.
func (s *S3) below(ctx context.Context, prefix string) (names []string, err error) {
	for token := ""; ; {
		response, err := s.call(ctx, http.MethodGet, s.listing(prefix, token), nil, emptySum, nil)
		if err != nil {
			return names, err
		}
		if response.StatusCode != http.StatusOK {
			return names, fmt.Errorf("list objects: %s", response.Status)
		}
		var page struct {
			Contents              []struct{ Key string }
			IsTruncated           bool
			NextContinuationToken string
		}
		if err := xml.NewDecoder(response.Body).Decode(&page); err != nil {
			return names, fmt.Errorf("list objects: %w", err)
		}
		for _, object := range page.Contents {
			names = append(names, strings.TrimPrefix(object.Key, s.config.Prefix))
		}
		if !page.IsTruncated {
			return names, nil
		}
		if token = page.NextContinuationToken; token == "" {
			return names, errors.New("list objects: the page is truncated, but the store gives no token for the next")
		}
	}
}

// object returns the URL of an object.
func (s *S3) object(name string) string {
	return s.config.Endpoint + "/" + escaped(s.config.Bucket) + "/" + escaped(s.config.Prefix+name)
}

// listing returns the URL of the list of objects with a prefix, from a continuation token on. Its parameters are
// sorted, as signatures require.
func (s *S3) listing(prefix, token string) string {
	parameter := func(name, value string) string { return name + "=" + strings.ReplaceAll(escaped(value), "/", "%2F") }
	query := "list-type=2&" + parameter("prefix", s.config.Prefix+prefix)
	if token != "" {
		query = parameter("continuation-token", token) + "&" + query
	}
	return s.config.Endpoint + "/" + escaped(s.config.Bucket) + "?" + query
}

// emptySum is the SHA-256 of nothing.
const emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// answerMax bounds the length of an answer: a thousand names of a kilobyte, and what XML adds.
const answerMax = 4 << 20

// call sends one signed request and reads the whole answer, so that the connection can be used again.
func (s *S3) call(ctx context.Context, method, target string, header http.Header, sum string, document crl.Document) (*http.Response, error) {
	var body io.Reader
	if document != nil {
		body = document.Reader()
	}
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		request.Header[name] = values
	}
	if document != nil {
		request.ContentLength = document.Size()
	}
	s.sign(request, sum)
	response, err := s.config.Client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, answerMax))
	response.Body = io.NopCloser(bytes.NewReader(answer))
	return response, err
}

// escaped percent-encodes a path as signatures require: every octet except unreserved ones and slashes, which is more
// than URLs need.
func escaped(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// sign signs a request with AWS Signature Version 4, over the host and every header that is set.
func (s *S3) sign(request *http.Request, sum string) {
	now := s.config.Now().UTC()
	request.Header.Set("X-Amz-Date", now.Format("20060102T150405Z"))
	request.Header.Set("X-Amz-Content-Sha256", sum)
	if s.config.Session != "" {
		request.Header.Set("X-Amz-Security-Token", s.config.Session)
	}
	values := map[string]string{"host": request.URL.Host}
	for name, list := range request.Header {
		values[strings.ToLower(name)] = strings.Join(list, ",")
	}
	names := slices.Sorted(maps.Keys(values))
	lines := make([]string, len(names))
	for i, name := range names {
		lines[i] = name + ":" + values[name]
	}
	signed := strings.Join(names, ";")
	canonical := strings.Join([]string{request.Method, request.URL.EscapedPath(), request.URL.RawQuery, strings.Join(lines, "\n"), "", signed, sum}, "\n")
	digest := sha256.Sum256([]byte(canonical))
	scope := now.Format("20060102") + "/" + s.config.Region + "/s3/aws4_request"
	message := "AWS4-HMAC-SHA256\n" + now.Format("20060102T150405Z") + "\n" + scope + "\n" + hex.EncodeToString(digest[:])
	key := []byte("AWS4" + s.config.SecretKey)
	for _, part := range strings.Split(scope, "/") {
		key = keyed(key, part)
	}
	request.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+s.config.AccessKey+"/"+scope+
		",SignedHeaders="+signed+",Signature="+hex.EncodeToString(keyed(key, message)))
}

func keyed(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
