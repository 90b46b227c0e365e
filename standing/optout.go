package standing

import (
	"bufio"
	"context"
	"os"
	"strings"
	"time"

	"tombolo/fhir"
	"tombolo/policy"
)

// MaxListAge is how old the answer of the National Data Opt-Out check may be. Somebody who opts out today is out of all that leaves after it.
const MaxListAge = 7 * 24 * time.Hour

// A Register answers by a file, as the MESH check service returns it: the NHS numbers that may be used, one a line, with or without a comma
// after it. Whoever is not in it has opted out, or was not asked about: neither may be used.
type Register struct {
	File func() string // "" if there is none: nobody may be used
	Now  func() time.Time
}

// Ask reads the file anew each time: secondary uses are few, and must not go by yesterday's answer.
func (r Register) Ask(ctx context.Context, nhsNumber string) (policy.OptOut, error) {
	name := ""
	if r.File != nil {
		name = r.File()
	}
	if name == "" || nhsNumber == "" {
		return policy.NotConsulted, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return policy.NotConsulted, fhir.Errorf(fhir.Transient, "the answer of the National Data Opt-Out check cannot be read, so nobody's data is used for research or planning")
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || r.Now().Sub(info.ModTime()) > MaxListAge {
		return policy.NotConsulted, err
	}
	for sc := bufio.NewScanner(f); sc.Scan() && ctx.Err() == nil; {
		if n, err := fhir.ParseNHSNumber(strings.TrimRight(strings.TrimSpace(sc.Text()), ",")); err == nil && n.Digits() == nhsNumber {
			return policy.MayBeUsed, nil
		}
	}
	return policy.OptedOut, ctx.Err()
}
