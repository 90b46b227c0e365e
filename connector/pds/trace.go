package pds

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"tombolo/fhir"
)

// A Wanted is what is known of somebody without an NHS number.
type Wanted struct {
	Family, Given string // Given is the first given name
	BirthDate     string // 2006-01-02
	Gender        string // used in the last step only: PDS advises against it, since what is recorded may not be how somebody lives
	Postcode      string
}

// A step is one search of the cascade.
type step struct {
	name string
	q    url.Values
}

// Trace finds the one person whom a description means. It asks as PDS advises an application that is given one person or nobody: first by the beginnings of
// given name and postcode, with earlier names and addresses; without the postcode, of who has moved; and only then fuzzily, which tells PDS of more people than
// the one looked for. An issue of type NotFound: nobody; MultipleMatch: more than one; Required: too little is known to ask.
//
// The caller holds the answer against what it knows: a search is a guess. PDS FHIR API: Search for a patient, application-restricted access mode
func (c *Client) Trace(ctx context.Context, w Wanted, turn Turn) (*Found, error) {
	steps, err := w.steps()
	if err != nil {
		return nil, fhir.IssueOf(err).From(c.o.Source)
	}
	sum := sha256.Sum256([]byte(w.Family + "\x1f" + w.Given + "\x1f" + w.BirthDate + "\x1f" + w.Gender + "\x1f" + w.Postcode))
	return c.once(ctx, "trace/"+hex.EncodeToString(sum[:]), func(ctx context.Context) (*Found, error) {
		many := error(nil)
		for _, s := range steps {
			if s.name == "exact" && many == nil { // it would find nobody whom the beginnings have not
				continue
			}
			f, err := c.search(ctx, s, turn)
			switch {
			case err == nil && f != nil:
				return f, nil
			case err == nil:
			case fhir.Is(err, fhir.MultipleMatch):
				// More people would answer a wider question. One that says more is still to come at most once: the exact one.
				many = err
			default:
				return nil, err
			}
			if many != nil && s.name != "beginnings" {
				break
			}
		}
		if many != nil {
			return nil, many
		}
		return nil, fhir.Errorf(fhir.NotFound, "PDS knows nobody who is described so").From(c.o.Source)
	})
}

// steps are the searches, in order, that what is known is enough for.
func (w Wanted) steps() ([]step, error) {
	family, given, postcode := name(w.Family), name(w.Given), strings.ToUpper(strings.ReplaceAll(w.Postcode, " ", ""))
	if family == "" || len(w.BirthDate) != len("2006-01-02") {
		return nil, fhir.Errorf(fhir.Required, "PDS is searched by family name and whole birth date at least")
	}
	base := url.Values{"family": {family}, "birthdate": {"eq" + w.BirthDate}, "_max-results": {"1"}}
	with := func(more ...string) url.Values {
		q := url.Values{}
		for k, v := range base {
			q[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			q.Set(more[i], more[i+1])
		}
		return q
	}
	var out []step
	if b := beginning(given, 3); b != "" && len(postcode) > 2 {
		out = append(out, step{"beginnings", with("given", b, "address-postalcode", postcode[:2]+"*", "_history", "true")},
			step{"exact", with("given", given, "address-postalcode", postcode, "_history", "true")})
	}
	if b := beginning(given, 3); b != "" {
		out = append(out, step{"moved", with("given", b, "_history", "true")}, step{"fuzzy", with("given", given, "_fuzzy-match", "true")})
	}
	if len(postcode) > 4 && slices.Contains([]string{"male", "female", "other", "unknown"}, w.Gender) {
		out = append(out, step{"fuzzy without given name", with("gender", w.Gender, "address-postalcode", postcode, "_fuzzy-match", "true")})
	}
	if len(out) == 0 {
		out = append(out, step{"family name and birth date", with("_history", "true")})
	}
	return out, nil
}

// name takes out what would be a wildcard, and what is longer than PDS takes.
func name(s string) string {
	s = strings.TrimSpace(strings.ReplaceAll(s, "*", ""))
	if r := []rune(s); len(r) > 35 {
		s = string(r[:35])
	}
	return s
}

// beginning is the first characters of a name with a wildcard, which PDS takes after two characters at least; "" for an initial.
func beginning(s string, n int) string {
	r := []rune(s)
	switch {
	case utf8.RuneCountInString(s) < 2:
		return ""
	case len(r) <= n:
		return s + "*"
	}
	return string(r[:n]) + "*"
}

// search asks one step. Nobody: neither found nor an error.
func (c *Client) search(ctx context.Context, s step, turn Turn) (*Found, error) {
	v, err := c.get(ctx, "/Patient?"+s.q.Encode(), turn)
	if err != nil {
		return nil, err
	}
	if v.Text("resourceType") != "Bundle" {
		return nil, fhir.Errorf(fhir.Structure, "PDS's answer to a search is not a Bundle").From(c.o.Source)
	}
	var found []*Found
	for e := range v.All("entry") {
		f, err := c.patient(e.Member("resource"))
		if fhir.Is(err, fhir.Deleted) {
			continue
		}
		if err != nil {
			return nil, err
		}
		f.By = s.name
		f.Score, _ = strconv.ParseFloat(string(e.Get("search.score").Raw()), 64)
		found = append(found, f)
	}
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return found[0], nil
	}
	return nil, fhir.Errorf(fhir.MultipleMatch, "PDS knows more than one person who may be meant").From(c.o.Source)
}
