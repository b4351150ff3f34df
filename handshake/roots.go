package handshake

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"signet.example/signet/pki"
)

// maxRootsFile bounds one file of trusted certificates.
const maxRootsFile = 16 << 20

// LoadRoots reads trusted certificates from files and directories and returns them, each once, and a pool of them. The
// word "system" adds the roots of the operating system to the pool; without a path these are the only ones.
//
// A named file counts whatever its name: PEM with any number of certificates, or DER. Of a directory, without its
// subdirectories, the regular files count whose name ends in .pem, .crt, .cer or .der, or is a hash of OpenSSL's with a
// number (5ed36f99.0); symbolic links are followed. A key in PEM among them is passed over.
//
// A certificate that cannot be read is an error, and so is a file or a directory without any: a misspelt path must not
// leave an empty pool.
func LoadRoots(paths ...string) (*x509.CertPool, []*x509.Certificate, error) {
	if len(paths) == 0 {
		paths = []string{systemRoots}
	}
	pool := x509.NewCertPool()
	if slices.Contains(paths, systemRoots) {
		var err error
		if pool, err = x509.SystemCertPool(); err != nil { // a copy, which may be added to
			return nil, nil, rootsError(systemRoots, err)
		}
	}
	var roots []*x509.Certificate
	for _, path := range paths {
		if path == systemRoots {
			continue
		}
		found, err := rootsAt(path)
		if err != nil {
			return nil, nil, rootsError(path, err)
		}
		for _, root := range found {
			if !slices.ContainsFunc(roots, root.Equal) { // a hash is a second name of the same file
				pool.AddCert(root)
				roots = append(roots, root)
			}
		}
	}
	return pool, roots, nil
}

// systemRoots is the word for the roots of the operating system.
const systemRoots = "system"

// rootsAt reads a named file, or the files of a directory that count.
func rootsAt(path string) ([]*x509.Certificate, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	read := rootsInFile
	if info.IsDir() {
		read = rootsInDirectory
	}
	found, err := read(path)
	if err == nil && len(found) == 0 {
		err = errors.New("no certificate in it")
	}
	return found, err
}

// namesRoots reports whether a file in a directory counts by its name.
func namesRoots(name string) bool {
	ending := filepath.Ext(name)
	if slices.Contains([]string{".pem", ".crt", ".cer", ".der"}, ending) {
		return true
	}
	hash, err := hex.DecodeString(strings.TrimSuffix(name, ending))
	_, noNumber := strconv.ParseUint(strings.TrimPrefix(ending, "."), 10, 16)
	return err == nil && len(hash) == 4 && noNumber == nil
}

func rootsInDirectory(dir string) (all []*x509.Certificate, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if !namesRoots(entry.Name()) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		found, err := rootsInFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", entry.Name(), err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func rootsInFile(path string) ([]*x509.Certificate, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxRootsFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxRootsFile {
		return nil, fmt.Errorf("more than %d octets", maxRootsFile)
	}
	return parseRoots(data)
}

// parseRoots reads every certificate of a file, or fails: the caller did not ask for half a bundle.
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
	return certificates, nil
}

func rootsError(path string, err error) error {
	kind := pki.KindInvalid
	if errors.Is(err, fs.ErrNotExist) {
		kind = pki.KindNotFound
	}
	failure := &pki.Error{Kind: kind, Op: "load trusted certificates", Field: path, Err: err}
	return failure.WithHint("name a file in PEM or DER, a directory of .pem, .crt, .cer or .der files, or %s", systemRoots)
}
