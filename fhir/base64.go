package fhir

import (
	"encoding/base64"
	"strings"
)

// DecodeBase64 reads a base64Binary, which may be broken into lines. FHIR R4 datatypes.html#base64Binary
func DecodeBase64(s string) ([]byte, error) {
	return base64.StdEncoding.DecodeString(strings.Map(func(c rune) rune {
		if c == ' ' || c == '\n' || c == '\r' || c == '\t' {
			return -1
		}
		return c
	}, s))
}
