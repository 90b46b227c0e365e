package hl7v2

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tombolo/fhir"
)

// people answers queries from a list, and remembers what it was asked.
type people struct {
	asked []PatientQuery
	known []Candidate
	fail  error
}

func (d *people) Candidates(_ context.Context, q PatientQuery) (Found, error) {
	d.asked = append(d.asked, q)
	from := min(q.Skip, len(d.known))
	return Found{d.known[from:min(from+q.Limit, len(d.known))], len(d.known)}, d.fail
}

func (d *people) Knows(system string) bool {
	return system == fhir.SystemNHSNumber || system == "urn:id:RX1"
}

func ask(control, known string) string {
	return "MSH|^~\\&|EPR|RX1|TIE|SEVERN|20260302||QBP^Q22^QBP_Q21|" + control + "|P|2.5\rQPD|IHE PDQ Query|T1|" + known + "\rRCP|I|5^RD\r"
}

func TestWhoSomebodyIsCanBeAskedOfAFeedThatAnswers(t *testing.T) {
	margaret := Candidate{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}, {System: "urn:id:RX1", Value: "RX|1"}},
		Name: fhir.HumanName{Family: "Taylor^x", Given: []string{"Margaret", "Ann"}, Prefix: []string{"Mrs"}}, BirthDate: "1948-03-12", Gender: "female",
		Address: &fhir.Address{Line: []string{"1 Ferry Lane"}, City: "Severnmouth", PostalCode: "GL99 1AA"}, Phone: "01632 960101"}
	const pid = `PID|1||9990000107^^^NHS^NH~RX\F\1^^^RX1^PI||Taylor\S\x^Margaret^Ann^^Mrs^^L||19480312|F|||1 Ferry Lane^^Severnmouth^^GL99 1AA||01632 960101`
	for _, c := range []struct {
		name, known string
		dir         people
		want        string // what the answer must hold
		not         string
		q           PatientQuery
	}{
		{"by number", "@PID.3.1^9990000107~@PID.3.4^NHS", people{known: []Candidate{margaret}}, "MSA|AA|q\rQAK|T1|OK|IHE PDQ Query|1|1|0\rQPD|IHE PDQ Query|T1|@PID.3.1^9990000107~@PID.3.4^NHS\r" + pid, "ERR",
			PatientQuery{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}}},
		{"by a local number", "@PID.3.1^RX1234", people{}, "QAK|T1|NF|IHE PDQ Query|0|0|0\r", "PID|", PatientQuery{Identifiers: []fhir.Identifier{{System: "urn:id:RX1", Value: "RX1234"}}}},
		{"by what is on the form", "@PID.5.1^Taylor~@PID.5.2^Margaret~@PID.7^19480312~@PID.8^F~@PID.11.5^GL99 1AA", people{known: []Candidate{margaret}}, "QAK|T1|OK", "ERR",
			PatientQuery{Family: "Taylor", Given: "Margaret", BirthDate: "1948-03-12", Gender: "female", Postcode: "GL99 1AA"}},
		{"by nothing", "@PID.8^F", people{known: []Candidate{margaret}}, "MSA|AE|q\rERR||QPD^1^3|101", "PID|", PatientQuery{}},
		{"by something not searched", "@PID.5.1^Taylor~@PID.13^01632", people{known: []Candidate{margaret}}, "QAK|T1|AE", "PID|", PatientQuery{}},
		{"of who may not tell", "@PID.3.1^9990000107", people{fail: fhir.Errorf(fhir.Forbidden, "not for this feed")}, "QAK|T1|AE", "PID|", PatientQuery{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}}},
	} {
		door := &record{}
		serve(t, Options{Directory: &c.dir}, door, func(t *testing.T, p *pipes, _ context.CancelFunc) {
			conn := p.dial()
			go func() { _, _ = conn.Write([]byte(framed(ask("q", c.known)))) }()
			answer, err := ReadFrame(conn.r, MaxMessage)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if s := string(answer); !strings.Contains(s, "|RSP^K22^RSP_K21|") || !strings.Contains(s, c.want) || c.not != "" && strings.Contains(s, "\r"+c.not) {
				t.Errorf("%s: answered\n%s\nwant it to hold %q", c.name, strings.ReplaceAll(s, "\r", "\n"), c.want)
			}
		})
		c.q.Source, c.q.Sender, c.q.Control, c.q.Limit = "rx1-pas", "EPR^RX1", "q", 5
		if want := []PatientQuery{c.q}; strings.Contains(c.want, "AE|q") || c.name == "by something not searched" {
			if len(c.dir.asked) > 0 {
				t.Errorf("%s: a query that cannot be read was asked", c.name)
			}
		} else if !reflect.DeepEqual(c.dir.asked, want) {
			t.Errorf("%s: asked %+v, want %+v", c.name, c.dir.asked, want)
		}
		if len(door.kept) > 0 {
			t.Errorf("%s: the query was kept as if it were news", c.name)
		}
	}
}

func TestAQueryWhoseAuditFailsIsNotAnswered(t *testing.T) {
	dir := &people{fail: fhir.Errorf(fhir.NoStore, "the audit log cannot be written")}
	serve(t, Options{Directory: dir}, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		if got := p.dial().ask(t, framed(ask("q", "@PID.3.1^9990000107"))); got != "closed" {
			t.Errorf("answered %q", got)
		}
	})
}

func TestAFeedThatAnswersNoQueriesRefusesThem(t *testing.T) {
	serve(t, Options{}, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		if got := p.dial().ask(t, framed(ask("q", "@PID.3.1^9990000107"))); !strings.HasPrefix(got, "AR q") {
			t.Errorf("answered %q", got)
		}
	})
}

// wireQuery is one query as a system sends it.
func wireQuery(event, qpd string, more ...string) string {
	return "MSH|^~\\&|EPR|RX1|TIE|SEVERN|20260302||QBP^" + event + "^QBP_Q21|q|P|2.5\rQPD|" + qpd + "\r" + strings.Join(more, "\r") + "\r"
}

// answered sends messages on one connection and gives the answers.
func answered(t *testing.T, o Options, messages ...func(before string) string) []string {
	t.Helper()
	var out []string
	serve(t, o, &record{}, func(t *testing.T, p *pipes, _ context.CancelFunc) {
		conn, before := p.dial(), ""
		for _, m := range messages {
			msg := m(before)
			go func() { _, _ = conn.Write([]byte(framed(msg))) }()
			answer, err := ReadFrame(conn.r, MaxMessage)
			if err != nil {
				t.Fatal(err)
			}
			before = string(answer)
			out = append(out, before)
		}
	})
	return out
}

func some(n int) (out []Candidate) {
	for i := range n {
		out = append(out, Candidate{Identifiers: []fhir.Identifier{{System: "urn:id:RX1", Value: fmt.Sprint("N", i)}}, Name: fhir.HumanName{Family: "Taylor"}})
	}
	return out
}

// Whoever can take only some at a time is told how to ask for the rest, and whoever did not say so is told all or nothing.
func TestALongAnswerComesInParts(t *testing.T) {
	const qpd = "IHE PDQ Query|T1|@PID.5.1^Taylor~@PID.7^19480312"
	pointer := func(answer string) string {
		_, dsc, ok := strings.Cut(answer, "\rDSC|")
		if !ok {
			t.Fatalf("no continuation pointer in\n%s", answer)
		}
		p, _, _ := strings.Cut(dsc, "|")
		return "DSC|" + p + "|I"
	}
	seen := map[string]bool{}
	next := func(before string) string { return wireQuery("Q22", qpd, "RCP|I|2^RD", pointer(before)) }
	answers := answered(t, Options{Directory: &people{known: some(5)}}, func(string) string { return wireQuery("Q22", qpd, "RCP|I|2^RD") }, next, next,
		func(string) string { return wireQuery("Q22", qpd, "RCP|I|2^RD", "DSC|2.somethingelse|I") },
		func(string) string {
			return "MSH|^~\\&|EPR|RX1|TIE|SEVERN|20260302||QCN^J01^QCN_J01|q|P|2.5\rQID|T1|IHE PDQ Query\r"
		})
	for i, want := range []string{"|5|2|3\r", "|5|2|1\r", "|5|1|0\r", "QAK|T1|AE", "MSA|AA|q"} {
		if !strings.Contains(answers[i], want) {
			t.Errorf("part %d is\n%s\nwant it to hold %q", i+1, strings.ReplaceAll(answers[i], "\r", "\n"), want)
		}
		for _, line := range strings.Split(answers[i], "\r") {
			if strings.HasPrefix(line, "PID|") {
				seen[strings.Split(line, "|")[3]] = true
			}
		}
	}
	if len(seen) != 5 || strings.Contains(answers[2], "\rDSC|") {
		t.Errorf("%d of 5 people were told of; the last part is\n%s", len(seen), answers[2])
	}
	all := answered(t, Options{Directory: &people{known: some(mostCandidates + 1)}}, func(string) string { return wireQuery("Q22", qpd, "RCP|I") })
	if !strings.Contains(all[0], "QAK|T1|AE") || strings.Contains(all[0], "\rPID|") {
		t.Errorf("more people than are told of at once gave\n%s", all[0])
	}
}

// IHE ITI-9: the other identifiers of whoever has this one; the cases of §3.9.4.2.2.6.
func TestCorrespondingIdentifiersAreTold(t *testing.T) {
	both := []Candidate{{Identifiers: []fhir.Identifier{{System: fhir.SystemNHSNumber, Value: "9990000107"}}, Name: fhir.HumanName{Family: "Taylor"}}}
	for _, c := range []struct {
		name, qpd string
		known     []Candidate
		want, not string
	}{
		{"known", "IHE PIX Query|T1|N1^^^RX1^PI", both, "RSP^K23^RSP_K23|", "Taylor"},
		{"known, and how it is told", "IHE PIX Query|T1|N1^^^RX1^PI", both, "QAK|T1|OK|IHE PIX Query|1\rQPD|IHE PIX Query|T1|N1^^^RX1^PI\rPID|||9990000107^^^NHS^NH||~^^^^^^S\r", "ERR"},
		{"known by no other", "IHE PIX Query|T1|N1^^^RX1^PI", some(1)[:1:1], "RSP^K23", "ERR"},
		{"alone", "IHE PIX Query|T1|N1^^^RX1^PI", []Candidate{{}}, "MSA|AA|q\rQAK|T1|NF", "PID|||"},
		{"unknown", "IHE PIX Query|T1|N9^^^RX1^PI", nil, "MSA|AE|q\rERR||QPD^1^3^1^1|204^", "PID|||"},
		{"of an unknown authority", "IHE PIX Query|T1|N9^^^ELSEWHERE", both, "MSA|AE|q\rERR||QPD^1^3^1^4|204^", "PID|||"},
		{"wanted of an unknown authority", "IHE PIX Query|T1|N1^^^RX1|^^^NHS~^^^ELSEWHERE", both, "MSA|AE|q\rERR||QPD^1^4^2^4|204^", "PID|||"},
	} {
		dir := &people{known: c.known}
		got := answered(t, Options{Directory: dir}, func(string) string { return wireQuery("Q23", c.qpd, "RCP|I") })[0]
		if !strings.Contains(got, c.want) || strings.Contains(got, c.not) {
			t.Errorf("%s: answered\n%s\nwant it to hold %q and not %q", c.name, strings.ReplaceAll(got, "\r", "\n"), c.want, c.not)
		}
		for _, q := range dir.asked {
			if !q.Corresponding || q.Family != "" || len(q.Identifiers) != 1 || q.Identifiers[0].System != "urn:id:RX1" {
				t.Errorf("%s: asked %+v", c.name, q)
			}
		}
	}
}

// A query is held to what any message is held to.
func TestATestQueryIsNotAnsweredFromLiveData(t *testing.T) {
	test := strings.Replace(ask("q", "@PID.3.1^9990000107"), "|P|2.5", "|T|2.5", 1)
	dir := &people{}
	if got := answered(t, Options{Directory: dir}, func(string) string { return test })[0]; !strings.Contains(got, "MSA|AR|q") || len(dir.asked) > 0 {
		t.Errorf("answered %q, asked %v", got, dir.asked)
	}
}

// Whatever a query holds, it gets one well-formed answer, or none.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{ask("q", "@PID.3.1^9990000107~@PID.3.4^NHS"), ask("q", "@PID.5.1.1^Tay*~@PID.11.3^Severnmouth"), wireQuery("Q23", "IHE PIX Query|T1|N1^^^RX1|^^^NHS", "RCP|I"),
		wireQuery("Q22", "Q|T1|@PID.7^1948", "RCP|I|1^RD", "DSC|1.x|I"), wireQuery("Q22", ""), "MSH|^~\\&|||||||QCN^J01|1|P|2.5\r"} {
		f.Add([]byte(q))
	}
	feed, err := New(Options{Source: "rx1-pas", Organisation: "RX1", Listener: newPipes(), Directory: &people{known: some(3)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data, ParseOptions{})
		if err != nil || !isQuery(m) {
			return
		}
		answer, err := feed.query(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		a, err := Parse(answer, ParseOptions{})
		if err != nil || !a.First("MSA").Exists() {
			t.Fatalf("answered %q: %v", answer, err)
		}
		_, _, control := m.Type()
		if got := a.First("MSA").Field(2).Text(); got != control {
			t.Errorf("the answer is to %q, asked was %q", got, control)
		}
	})
}
