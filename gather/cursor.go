package gather

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
)

// A page's cursor is a place in the store: that of the last resource that was looked at, which may be one that the asker may not see. So it is sealed on its way out, for
// the system whose search it is, by a key made of the node's own. The same place is sealed alike each time (the nonce is made of what is sealed), so that equal answers are equal.

func (o *Own) sealing() (aead cipher.AEAD, key []byte) {
	sum := sha256.Sum256(append([]byte("cursor\x00"), o.g.o.Stamper.Key...))
	block, err := aes.NewCipher(sum[:16])
	if err == nil {
		aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		panic(err) // a key of 16 bytes is always one
	}
	return aead, sum[16:]
}

// Seal makes a cursor one that tells nothing.
func (o *Own) Seal(cursor string) string {
	if cursor == "" {
		return ""
	}
	aead, key := o.sealing()
	m := hmac.New(sha256.New, key)
	m.Write([]byte(o.source + "\x00" + cursor))
	nonce := m.Sum(nil)[:aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nonce, nonce, []byte(cursor), []byte(o.source)))
}

// Unseal is what was sealed for this system; false for anything else.
func (o *Own) Unseal(sealed string) (string, bool) {
	if sealed == "" {
		return "", true
	}
	data, err := base64.RawURLEncoding.DecodeString(sealed)
	aead, _ := o.sealing()
	if n := aead.NonceSize(); err == nil && len(data) > n {
		if plain, err := aead.Open(nil, data[:n], data[n:], []byte(o.source)); err == nil {
			return string(plain), true
		}
	}
	return "", false
}
