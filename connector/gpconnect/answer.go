package gpconnect

import (
	"slices"
	"strconv"
	"strings"

	"tombolo/connector"
	"tombolo/dataset"
	"tombolo/fhir"
)

// answer says what a converted record comes to for the headings that were asked: the practice's linked entries under other headings
// stay out, and "none" is said only where the practice said it.
func answer(done *Converted, headings []dataset.Heading) *connector.Answer {
	a := &connector.Answer{Patient: done.Patient, Map: Map, Bytes: done.Bytes, States: map[dataset.Heading]dataset.State{}}
	count := map[dataset.Heading]int{}
	practice := false
	for _, r := range done.Content {
		h := dataset.HeadingOf(r)
		if h != "" && !slices.Contains(headings, h) {
			continue
		}
		count[h]++
		practice = practice || r.Type() == "Organization"
		a.Content = append(a.Content, r)
	}
	for _, q := range queries {
		lists := slices.DeleteFunc(slices.Clone(done.Sections), func(s Section) bool { return s.Code != q.list })
		for _, h := range q.headings {
			if !slices.Contains(headings, h) {
				continue
			}
			if st, ok := state(h, q, lists, count[h]); ok {
				a.States[h] = st
			} else if len(lists) > 0 && !q.spread && count[h] == 0 && !slices.ContainsFunc(lists, func(s Section) bool { return len(s.Warnings) > 0 }) {
				a.Issues = append(a.Issues, (&fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Warning,
					Text: "the practice sent no " + q.plain + " and did not say that it has none"}).At(string(h)))
			}
		}
	}
	if slices.Contains(headings, dataset.Demographics) && done.Patient != nil {
		a.States[dataset.Demographics] = dataset.Present
	}
	if slices.Contains(headings, dataset.GPPractice) && practice {
		a.States[dataset.GPPractice] = dataset.Present
	}
	a.Issues = append(a.Issues, warnings(done.Sections, headings)...)
	a.Issues = append(a.Issues, missing(done.Sections, headings)...)
	for _, is := range done.Issues {
		if asked(is, headings) {
			a.Issues = append(a.Issues, is)
		}
	}
	return a
}

// unoffered are the headings whose queries the practice's system turned out not to know.
func (done *Converted) unoffered(headings []dataset.Heading) (out []dataset.Heading) {
	for _, is := range done.Issues {
		for _, q := range queries {
			if is.Type == fhir.NotSupported && strings.HasPrefix(is.Expression, q.name+" ") {
				for _, h := range q.headings {
					if slices.Contains(headings, h) {
						out = append(out, h)
					}
				}
			}
		}
	}
	return out
}

// asked passes over "not offered" for what was not asked.
func asked(is *fhir.Issue, headings []dataset.Heading) bool {
	for _, q := range queries {
		if strings.HasPrefix(is.Expression, q.name+" ") {
			return slices.ContainsFunc(q.headings, func(h dataset.Heading) bool { return slices.Contains(headings, h) })
		}
	}
	return true
}

// state is what is known of a heading; not ok if nothing is. An empty list under a warning is not "none": with confidential items there
// is something, with data in transit or waiting to be filed there may be.
func state(h dataset.Heading, q query, lists []Section, entries int) (dataset.State, bool) {
	switch {
	case len(lists) == 0:
		// Without its own list a query was not answered, whatever came along with problems or consultations.
		return "", false
	case entries > 0:
		return dataset.Present, true
	}
	empty := true
	for _, s := range lists {
		for _, w := range s.Warnings {
			if w == "confidential-items" {
				return dataset.NotShared, true
			}
			return "", false
		}
		empty = empty && s.Empty && len(s.Entries) == 0
	}
	if !empty {
		return "", false
	}
	return dataset.NoneRecorded, true
}

// warnings are the practice's own about what is missing from its lists, for the headings asked.
//
// GP Connect 1.6 accessrecord_structured_development_list.html#warning-codes
func warnings(sections []Section, headings []dataset.Heading) []*fhir.Issue {
	var out []*fhir.Issue
	said := map[string]bool{}
	for _, s := range sections {
		hs := []dataset.Heading{s.Heading}
		for _, q := range queries {
			if q.list == s.Code {
				hs = q.headings
			}
		}
		for _, h := range hs {
			if !slices.Contains(headings, h) {
				continue
			}
			for _, w := range s.Warnings {
				if key := string(h) + w + s.Since; !said[key] {
					said[key] = true
					out = append(out, warning(w, s.Since).At(string(h)))
				}
			}
		}
	}
	return once(out)
}

// missing says of which headings the practice's own list names more than it sent.
func missing(sections []Section, headings []dataset.Heading) []*fhir.Issue {
	var out []*fhir.Issue
	for _, s := range sections {
		if s.Missing == 0 || !slices.Contains(headings, s.Heading) {
			continue
		}
		text := "the practice's list names an entry that it did not send; look at the source, or ask the practice"
		if s.Missing > 1 {
			text = "the practice's list names " + strconv.Itoa(s.Missing) + " entries that it did not send; look at the source, or ask the practice"
		}
		out = append(out, (&fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Warning, Text: text}).At(string(s.Heading)))
	}
	return out
}

// once says what holds of several headings a single time, of the whole record: a record in transit is in transit under each of its lists.
func once(warnings []*fhir.Issue) []*fhir.Issue {
	count := map[string]int{}
	for _, w := range warnings {
		count[w.Text]++
	}
	var out []*fhir.Issue
	for _, w := range warnings {
		switch n := count[w.Text]; {
		case w.Type == fhir.Suppressed, n == 1: // what is withheld is told where it is
			out = append(out, w)
		case n > 1:
			out = append(out, w.At(""))
			count[w.Text] = 0
		}
	}
	return out
}

func warning(code, since string) *fhir.Issue {
	is := &fhir.Issue{Type: fhir.Incomplete, Severity: fhir.Warning}
	switch code {
	case "confidential-items":
		is.Type, is.Text = fhir.Suppressed, "items are left out because they are confidential or because the person wishes it"
	case "data-in-transit":
		is.Text = "the record from the person's previous practice has not all arrived; earlier information may be missing"
		if since != "" {
			is.Text = "the record from the person's previous practice has not all arrived; information recorded before " + since + " may be missing"
		}
	case "data-awaiting-filing":
		is.Text = "information from others is waiting at the practice to be filed and is not shown yet"
	default:
		is.Text = "the practice warns that this part may be incomplete"
	}
	return is
}
