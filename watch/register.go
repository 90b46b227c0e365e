package watch

import (
	"encoding/csv"
	"errors"
	"io"
	"strings"

	"tombolo/fhir"
)

// ReadStaff reads a staff register: CSV whose first row names the columns. Needed is user, the id under which they sign in; known are
// surname, forename, nhs_number, organisation (ODS code), address (first line) and postcode. Others are passed over.
func ReadStaff(r io.Reader) ([]Member, error) {
	in := csv.NewReader(r)
	in.FieldsPerRecord = -1
	head, err := in.Read()
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the staff register has no row that names its columns: %w", err)
	}
	at := map[string]int{}
	for i, h := range head {
		at[strings.ToLower(strings.TrimSpace(strings.TrimPrefix(h, "\ufeff")))] = i
	}
	if _, ok := at["user"]; !ok {
		return nil, fhir.Errorf(fhir.Required, "the staff register has no column user: the id under which its people sign in").At("row 1")
	}
	var out []Member
	for {
		row, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "the staff register cannot be read: %w", err)
		}
		get := func(name string) string {
			if i, ok := at[name]; ok && i < len(row) {
				return strings.TrimSpace(row[i])
			}
			return ""
		}
		m := Member{User: get("user"), Family: get("surname"), Given: get("forename"), Organisation: get("organisation"), Home: home(get("address"), get("postcode"))}
		if n, err := fhir.ParseNHSNumber(get("nhs_number")); err == nil {
			m.NHSNumber = n.Digits()
		}
		if m.User != "" {
			out = append(out, m)
		}
	}
}

// ReadNumbers reads NHS numbers, one a line; what begins with # is passed over.
func ReadNumbers(r io.Reader) ([]string, error) {
	b, err := io.ReadAll(io.LimitReader(r, 16<<20))
	if err != nil {
		return nil, err
	}
	var out []string
	line := 0
	for text := range strings.Lines(string(b)) {
		line++
		if text = strings.TrimSpace(text); text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		n, err := fhir.ParseNHSNumber(text)
		if err != nil {
			return nil, fhir.Errorf(fhir.ValueError, "line %d of the list of watched people is not an NHS number", line)
		}
		out = append(out, n.Digits())
	}
	return out, nil
}
