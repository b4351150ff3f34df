package handshake

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"signet.example/signet/pki"
)

// maxRootsFile bounds one file of trusted certificates.
const maxRootsFile = 16 << 20

// LoadRoots reads trusted certificates from files (PEM with any number of them, or DER of one) and directories (every
// file that holds certificates, but no subdirectories). The word "system" adds the roots of the operating system;
// without a path it returns those alone. A named file without a certificate is an error, and so is a directory without
// one: a misspelt path must not leave an empty pool.
func LoadRoots(paths ...string) (*x509.CertPool, error) {
	if len(paths) == 0 {
		paths = []string{systemRoots}
	}
	pool := x509.NewCertPool()
	if slices.Contains(paths, systemRoots) {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil { // a copy, which may be added to
			return nil, rootsError(systemRoots, err)
		}
	}
	for _, path := range paths {
		if path == systemRoots {
			continue
		}
		if err := addRoots(pool, path); err != nil {
			return nil, rootsError(path, err)
		}
	}
	return pool, nil
}

// systemRoots is the word for the roots of the operating system.
const systemRoots = "system"

func addRoots(pool *x509.CertPool, path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return addRootsFile(pool, path) // not a directory, or nothing at all
	}
	found := false
	for _, entry := range entries {
		if entry.IsDir() {
			continue
		}
		if addRootsFile(pool, filepath.Join(path, entry.Name())) == nil { // directories of trust hold other files, too
			found = true
		}
	}
	if !found {
		return errors.New("no file in this directory holds a certificate")
	}
	return nil
}

func addRootsFile(pool *x509.CertPool, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRootsFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxRootsFile {
		return fmt.Errorf("more than %d octets", maxRootsFile)
	}
	certificates, err := parseRoots(data)
	if err != nil {
		return err
	}
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return nil
}

// parseRoots reads every certificate of a file, or fails: half a bundle is not what was asked for.
func parseRoots(data []byte) ([]*x509.Certificate, error) {
	if !bytes.Contains(data, []byte(pemProbePattern)) {
		return x509.ParseCertificates(data)
	}
	var certificates []*x509.Certificate
	for _, der := range pki.CertificatesInPEM(data) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		certificates = append(certificates, c)
	}
	if len(certificates) == 0 {
		return nil, errors.New("no certificate in it")
	}
	return certificates, nil
}

func rootsError(path string, err error) error {
	return &pki.Error{Kind: pki.KindInvalid, Op: "load trusted certificates", Field: path, Err: err}
}
