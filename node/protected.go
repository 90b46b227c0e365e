package node

import (
	"bytes"
	"context"
	"regexp"
	"unicode"

	"tombolo/connector/hl7v2"
	"tombolo/fhir"
)

// aNumber is what may be a national number, as people write it.
var aNumber = regexp.MustCompile(`[0-9]{3}[ -]?[0-9]{3}[ -]?[0-9]{4}`)

// mostWords is how many different words of a delivery are tried as its source's id of a patient.
const mostWords = 50_000

// protects reports whether bytes that a source sent name somebody whose whereabouts nobody is shown: by a national number, or by the source's own of a patient who is known
// from it; or say so themselves (HL7 v2 PD1-12). They have not been understood, and where in them an address stands is not known.
func (n *Node) protects(ctx context.Context, source string, raw []byte) (bool, error) {
	if m, err := hl7v2.Parse(raw, hl7v2.ParseOptions{}); err == nil && m.Protected() {
		return true, nil
	}
	for _, found := range aNumber.FindAll(raw, -1) {
		number, err := fhir.ParseNHSNumber(string(found))
		if err != nil {
			continue
		}
		for _, system := range []string{fhir.SystemNHSNumber, fhir.SystemCHI, fhir.SystemHCN} {
			id, err := n.People.Resolve(ctx, fhir.Identifier{System: system, Value: number.Digits()})
			if restricted, err := n.restricted(ctx, id, err); err != nil || restricted {
				return restricted, err
			}
		}
	}
	tried := map[string]bool{}
	for word := range bytes.FieldsFuncSeq(raw, func(c rune) bool { return c != '-' && c != '.' && !unicode.IsLetter(c) && !unicode.IsDigit(c) }) {
		if len(word) < 3 || len(word) > 64 || !bytes.ContainsAny(word, "0123456789") || tried[string(word)] {
			continue
		}
		if tried[string(word)] = true; len(tried) > mostWords {
			break
		}
		id, err := n.People.PersonOf(ctx, n.stamper.ID(source, "Patient", string(word)))
		if restricted, err := n.restricted(ctx, id, err); err != nil || restricted {
			return restricted, err
		}
	}
	return false, nil
}

// restricted reports whether somebody's whereabouts are protected. why is the error of finding who it is.
func (n *Node) restricted(ctx context.Context, person string, why error) (bool, error) {
	if why == nil {
		p, err := n.People.Person(ctx, person)
		if err == nil {
			return p.Restricted, nil
		}
		why = err
	}
	if fhir.Is(why, fhir.NotFound) {
		return false, nil
	}
	return false, why
}
