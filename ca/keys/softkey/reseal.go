package softkey

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"fmt"
	"slices"

	"github.com/youmark/pkcs8"

	"signet.example/signet/ca/keys"
	"signet.example/signet/pki"
)

// Reseal encrypts a key file, or the file of a secret that belongs to a key in a token, under another passphrase. Key
// and serial secret do not change. A file with anything else in it is an error. The result was opened once with the
// new passphrase, as a check.
func Reseal(text, before, after []byte) (resealed []byte, err error) {
	blocks, err := blocksOf(text)
	if err != nil {
		return nil, err
	}
	for _, block := range blocks {
		plain, err := unseal(block, before)
		if err != nil {
			return nil, err
		}
		switch content := plain.(type) {
		case pki.SerialSecret:
			block.Bytes, err = keys.SealSecret(content, after)
		default:
			block.Bytes, err = pkcs8.MarshalPrivateKey(content, after, &protection)
		}
		if err != nil {
			return nil, err
		}
		again, err := unseal(block, after)
		if err != nil {
			return nil, fmt.Errorf("open the result: %w", err)
		}
		if key, ok := plain.(interface{ Equal(crypto.PrivateKey) bool }); ok && !key.Equal(again) || !ok && again != plain {
			return nil, fmt.Errorf("the result opens to another key")
		}
		resealed = append(resealed, pem.EncodeToMemory(block)...)
	}
	return resealed, nil
}

// blocksOf reads the PEM blocks of a key and its secret, or of a secret alone. The text must hold nothing else.
func blocksOf(text []byte) (blocks []*pem.Block, err error) {
	begin := []byte("-----BEGIN ")
	var types []string
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		read := bytes.TrimSpace(text[:len(text)-len(rest)]) // pem.Decode skips what it cannot read
		if block == nil || !bytes.HasPrefix(read, begin) || bytes.Count(read, begin) != 1 || len(block.Headers) > 0 {
			return nil, fmt.Errorf("it holds something that is neither a key nor a secret, or is damaged: restore the file from a backup")
		}
		blocks, types, text = append(blocks, block), append(types, block.Type), rest
	}
	if !slices.Equal(types, []string{keyType, secretType}) && !slices.Equal(types, []string{secretType}) {
		return nil, fmt.Errorf("it holds %q, not a key and its secret, or a secret", types)
	}
	return blocks, nil
}

// unseal returns a private key or a pki.SerialSecret, depending on the type of the block.
func unseal(block *pem.Block, passphrase []byte) (any, error) {
	if block.Type == secretType {
		return keys.OpenSecret(block.Bytes, passphrase)
	}
	private, _, err := pkcs8.ParsePrivateKey(block.Bytes, passphrase)
	if err != nil {
		return nil, fmt.Errorf("open private key: %w", err)
	}
	return private, nil
}
