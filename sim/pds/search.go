package pds

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/sim/cast"
)

// parameters of a search. PDS FHIR API: Search for a patient
var parameters = []string{"_fuzzy-match", "_exact-match", "_history", "_max-results", "family", "given", "gender", "birthdate", "death-date", "address-postalcode", "address-postcode",
	"general-practitioner", "email", "phone"}

// search answers one person or nobody, as an application is.
func (s *Service) search(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.mu.Lock()
	s.searches = append(s.searches, strings.Join(slices.Sorted(keysOf(q)), " "))
	s.mu.Unlock()
	if status, code, diagnostics := refused(q); code != "" {
		s.refuse(w, status, code, diagnostics)
		return
	}
	s.mu.Lock()
	var found []cast.Person
	for _, p := range s.people {
		if !s.invalid[p.NHS] && answers(q, p) {
			found = append(found, p)
		}
	}
	s.mu.Unlock()
	if len(found) > 1 {
		reply(w, 200, Outcome("TOO_MANY_MATCHES", ""))
		return
	}
	b := fhir.NewBundle("searchset", "", len(found), 2048)
	for _, p := range found {
		score := 1.0
		if !strings.EqualFold(q.Get("given"), strings.Join(p.Given[:min(1, len(p.Given))], "")) || !strings.EqualFold(q.Get("family"), p.Family) {
			score = 0.9
		}
		b.AddEntry(fhir.EntryParts{FullURL: "https://api.service.nhs.uk/personal-demographics/FHIR/R4/Patient/" + p.NHS, Resource: patient(p, "", false), Search: fhir.M{"score": score}})
	}
	reply(w, 200, b.Bytes())
}

func keysOf(q url.Values) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range q {
			if !yield(k) {
				return
			}
		}
	}
}

// refused is what is wrong with a search: its status, code and diagnostics.
func refused(q url.Values) (status int, code, diagnostics string) {
	if len(q) == 0 {
		return 400, "UNSUPPORTED_SERVICE", ""
	}
	for k := range q {
		if !slices.Contains(parameters, k) {
			return 400, "ADDITIONAL_PROPERTIES", fmt.Sprintf("Invalid value - '%s' in field 'Additional properties are not allowed ('%s' was unexpected)'", k, k)
		}
	}
	fuzzy := q.Get("_fuzzy-match") == "true"
	if n, err := strconv.Atoi(q.Get("_max-results")); q.Has("_max-results") && (err != nil || n < 1 || n > 50) {
		return 400, "INVALID_VALUE", fmt.Sprintf("Invalid value - '%s' in field '_max-results'", q.Get("_max-results"))
	} else if n > 1 {
		return 403, "INVALID_VALUE", "Your app has insufficient permissions to use this operation"
	}
	if g := q.Get("gender"); q.Has("gender") && !slices.Contains([]string{"male", "female", "other", "unknown"}, g) {
		return 400, "INVALID_VALUE", fmt.Sprintf("Invalid value - '%s' in field 'gender'", g)
	}
	for _, d := range q["birthdate"] {
		if len(d) != 12 || !slices.Contains([]string{"eq", "ge", "le"}, d[:2]) {
			return 400, "INVALID_VALUE", fmt.Sprintf("Invalid value - '%s' in field 'birthdate'", d)
		}
		if _, err := time.Parse("2006-01-02", d[2:]); err != nil {
			return 400, "INVALID_VALUE", fmt.Sprintf("Invalid value - '%s' in field 'birthdate'", d)
		}
	}
	if !q.Has("birthdate") {
		return 400, "MISSING_VALUE", "Missing value - 'birth_date/birth_date_range_start/birth_date_range_end'"
	}
	if q.Has("address-postcode") && q.Has("address-postalcode") {
		return 400, "INVALID_SEARCH_DATA", "Invalid search data provided - 'address-postcode' and 'address-postalcode' both provided"
	}
	for _, k := range []string{"family", "given", "address-postalcode"} {
		for _, v := range q[k] {
			if i := strings.IndexByte(v, '*'); len([]rune(v)) > 36 || i >= 0 && (fuzzy || i < 2) {
				return 400, "INVALID_SEARCH_DATA", fmt.Sprintf("Invalid search data provided - '%s'", k)
			}
		}
	}
	place := q.Get("gender") != "" && q.Get("address-postalcode") != ""
	enough := q.Get("family") != ""
	if fuzzy {
		enough = q.Get("given") != "" && q.Get("family") != "" || place && (q.Get("family") != "" || q.Get("given") != "")
	}
	if !enough {
		return 400, "INVALID_SEARCH_DATA", "Invalid search data provided - 'The given input parameters did not meet the minimum requirements'"
	}
	return 0, "", ""
}

// answers holds somebody to a search.
func answers(q url.Values, p cast.Person) bool {
	place := q.Has("address-postalcode") || q.Has("general-practitioner")
	if p.Restricted && place { // never found by where they are
		return false
	}
	for _, d := range q["birthdate"] {
		switch op, day := d[:2], d[2:]; {
		case op == "eq" && p.Born != day, op == "ge" && p.Born < day, op == "le" && p.Born > day:
			return false
		}
	}
	if q.Get("gender") != "" && q.Get("gender") != p.Sex || !like(q.Get("address-postalcode"), strings.ReplaceAll(p.Postcode, " ", "")) {
		return false
	}
	given := ""
	if len(p.Given) > 0 {
		given = p.Given[0]
	}
	if q.Get("_fuzzy-match") == "true" {
		same := soundex(q.Get("family")) == soundex(p.Family) && (q.Get("given") == "" || soundex(q.Get("given")) == soundex(given))
		exchanged := strings.EqualFold(q.Get("family"), given) && strings.EqualFold(q.Get("given"), p.Family)
		return same || exchanged
	}
	return like(q.Get("family"), p.Family) && like(q.Get("given"), given)
}

// like compares a value with what is wanted, * standing for anything.
func like(wanted, have string) bool {
	wanted, have = strings.ToUpper(strings.ReplaceAll(wanted, " ", "")), strings.ToUpper(have)
	if wanted == "" {
		return true
	}
	parts := strings.Split(wanted, "*")
	if !strings.HasPrefix(have, parts[0]) {
		return false
	}
	have = have[len(parts[0]):]
	for _, part := range parts[1:] {
		i := strings.Index(have, part)
		if i < 0 {
			return false
		}
		have = have[i+len(part):]
	}
	return len(parts) > 1 || have == ""
}

// soundex is the American Soundex code of a name.
func soundex(s string) string {
	const digits = "01230120022455012623010202" // of A to Z; 0: not coded
	out := []byte{}
	last := byte('0')
	for _, c := range strings.ToUpper(s) {
		if c < 'A' || c > 'Z' {
			continue
		}
		d := digits[c-'A']
		switch {
		case len(out) == 0:
			out = append(out, byte(c))
		case d != '0' && d != last:
			out = append(out, d)
		}
		if c != 'H' && c != 'W' {
			last = d
		}
	}
	for len(out) < 4 {
		out = append(out, '0')
	}
	return string(out[:4])
}
