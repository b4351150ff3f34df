package softkey

import (
	"encoding/pem"
	"fmt"

	"github.com/youmark/pkcs8"

	"signet.example/signet/ca/keys"
)

// Reseal takes the text of a key file, or of the secret that is kept beside a key in a token, from one passphrase to another: key and
// serial secret stay.
func Reseal(text, before, after []byte) (resealed []byte, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case keyType:
			private, _, parseErr := pkcs8.ParsePrivateKey(block.Bytes, before)
			if parseErr != nil {
				return nil, fmt.Errorf("open private key: %w", parseErr)
			}
			block.Bytes, err = pkcs8.MarshalPrivateKey(private, after, &protection)
		case secretType:
			secret, openErr := keys.OpenSecret(block.Bytes, before)
			if openErr != nil {
				return nil, openErr
			}
			block.Bytes, err = keys.SealSecret(secret, after)
		default:
			err = fmt.Errorf("a PEM block %q is neither key nor secret", block.Type)
		}
		if err != nil {
			return nil, err
		}
		resealed = append(resealed, pem.EncodeToMemory(block)...)
	}
	if resealed == nil {
		return nil, fmt.Errorf("it holds no key")
	}
	return resealed, nil
}
