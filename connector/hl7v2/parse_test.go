package hl7v2

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"

	"tombolo/fhir"
)

func mustParse(t testing.TB, s string) *Message {
	t.Helper()
	m, err := Parse([]byte(s), ParseOptions{})
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return m
}

func TestFieldsAreFoundByPosition(t *testing.T) {
	m := mustParse(t, "MSH|^~\\&|PAS|RX1\rPID|1||123^^^RX1&1.2.3&ISO^PI~456^^^NHS||Hart^Rosalind\rZZZ|x")
	pid := m.First("PID")
	var ids []string
	for rep := range pid.Field(3).Reps() {
		ids = append(ids, rep.Comp(1).Text()+" of "+rep.Comp(4).Text())
	}
	for _, c := range []struct{ what, got, want string }{
		{"MSH-1", m.Header().Field(1).Text(), "|"},
		{"MSH-2", m.Header().Field(2).Text(), "^~\\&"},
		{"MSH-3", m.Header().Field(3).Text(), "PAS"},
		{"PID-3", strings.Join(ids, ", "), "123 of RX1, 456 of NHS"},
		{"PID-3.4.2", pid.Field(3).Comp(4).Sub(2).Text(), "1.2.3"},
		{"PID-5 first leaf", pid.Field(5).Text(), "Hart"},
		{"PID-5.2", pid.Field(5).Comp(2).Text(), "Rosalind"},
		{"PID-5.2.1", pid.Field(5).Comp(2).Sub(1).Text(), "Rosalind"},
		{"PID-5.1.2, which is not there", pid.Field(5).Comp(1).Sub(2).Text(), ""},
		{"PID-99, which is not there", pid.Field(99).Text(), ""},
		{"a segment of no known name", m.First("ZZZ").Field(1).Text(), "x"},
		{"a segment that is not there", m.First("PV1").Field(3).Text(), ""},
	} {
		if c.got != c.want {
			t.Errorf("%s is %q, want %q", c.what, c.got, c.want)
		}
	}
}

func TestDeleteIsNotEmpty(t *testing.T) {
	m := mustParse(t, "MSH|^~\\&\rPID|\"\"||a^\"\"^c")
	pid := m.First("PID")
	if !pid.Field(1).Null() || pid.Field(1).Empty() || pid.Field(1).Text() != "" {
		t.Error(`"" should be null, not empty, and have no text`)
	}
	if pid.Field(2).Null() || !pid.Field(2).Empty() {
		t.Error("an empty field should be empty, not null")
	}
	if !pid.Field(3).Comp(2).Null() {
		t.Error(`a component "" should be null`)
	}
}

func TestEscapesAreUndone(t *testing.T) {
	for in, want := range map[string]string{
		`a\F\b\S\c\T\d\R\e\E\f`: `a|b^c&d~e\f`,
		`one\.br\two`:           "one\ntwo",
		`a\X0D0A\b`:             "a\r\nb",
		`caf\XC3A9\`:            "café",
		`\H\bold\N\ plain`:      "bold plain",
		`a\.sp2\b`:              "a\n\nb",
		`\.in+4\text`:           "text",
		`C:\temp\new`:           `C:\temp\new`,
		`a\`:                    `a\`,
		`\\server\F\x`:          `\\server|x`,
		`\Xzz\`:                 `\Xzz\`,
		`\.sp99999999\`:         strings.Repeat("\n", 20),
		`\ZAB\`:                 `\ZAB\`,
	} {
		m := mustParse(t, "MSH|^~\\&\rNTE|1||"+in)
		if got := m.First("NTE").Field(3).Words(); got != want {
			t.Errorf("%q is read as %q, want %q", in, got, want)
		}
	}
}

func TestLineEndsOfAllKindsEndSegments(t *testing.T) {
	for _, eol := range []string{"\r", "\n", "\r\n", "\r\n\r\n"} {
		m := mustParse(t, "MSH|^~\\&|A"+eol+"PID|1"+eol+"NTE|1||x"+eol)
		if got := len(m.Segments()); got != 3 || m.First("NTE").Field(3).Text() != "x" {
			t.Errorf("with %q there are %d segments, want 3", eol, got)
		}
	}
}

func TestALineBreakInsideAValueStaysInIt(t *testing.T) {
	m := mustParse(t, "MSH|^~\\&|A\rNTE|1||First line\nsecond line\n\nthird|L\rPV1|1")
	if got := m.First("NTE").Field(3).Words(); got != "First line\nsecond line\n\nthird" {
		t.Errorf("NTE-3 is %q", got)
	}
	if got := m.First("NTE").Field(4).Words(); got != "L" {
		t.Errorf("NTE-4 is %q", got)
	}
}

func TestWhatIsNoMessageIsRefusedWithItsPlace(t *testing.T) {
	for in, place := range map[string]string{
		"":                         "MSH",
		"PID|1":                    "MSH",
		"MSH":                      "MSH-1",
		"MSHA^~\\&":                "MSH-1",
		"MSH|":                     "MSH-1",
		"MSH||x":                   "MSH-2",
		"MSH|^^\\&|":               "MSH-2",
		"MSH|ab|":                  "MSH-2",
		"MSH|^~\\&#!|":             "MSH-2",
		"MSH|^~\\&|A\rMSH|^~\\&|B": "MSH",
	} {
		_, err := Parse([]byte(in), ParseOptions{})
		i := fhir.IssueOf(err)
		if i == nil || i.Expression != place || i.Type != fhir.Structure {
			t.Errorf("Parse(%q) is refused by %v at %v, want structure at %s", in, err, i, place)
		}
	}
}

func TestLimitsHold(t *testing.T) {
	if _, err := Parse(bytes.Repeat([]byte("x"), 100), ParseOptions{MaxSize: 99}); !fhir.Is(err, fhir.TooLong) {
		t.Errorf("too long: %v", err)
	}
	if _, err := Parse([]byte("MSH|^~\\&\r"+strings.Repeat("NTE\r", maxSegments+1)), ParseOptions{}); !fhir.Is(err, fhir.TooCostly) {
		t.Errorf("too many segments: %v", err)
	}
	if _, err := Parse([]byte("MSH|^~\\&\rNTE"+strings.Repeat("|", maxFields+1)), ParseOptions{}); !fhir.Is(err, fhir.TooCostly) {
		t.Errorf("too many fields: %v", err)
	}
}

// A hostile message of the largest size is refused or mapped quickly, and without making much of itself.
func TestHostileMessagesStaySmall(t *testing.T) {
	head := "MSH|^~\\&|PAS|RX1|||||ORU^R01|1|P|2.4\r"
	fill := func(s string) string { return strings.Repeat(s, (MaxMessage-4096)/len(s)) }
	for what, msg := range map[string]string{
		"patients":    head + strings.Repeat("PID|||1\rOBR|||1|a|||||||||||||||||||||F\r", 30_000),
		"results":     head + "PID|||1\rOBR|||1|a|||||||||||||||||||||F\r" + strings.Repeat("OBX||NM|a||1\r", 90_000),
		"identifiers": head + "PID|||" + fill("1^^^A~"),
		"names":       head + "PID|||1||a^" + fill("b "),
		"escapes":     head + "PID|||1\rOBR|||1|a\rNTE|||" + fill("\\.br\\"),
		"backslashes": head + "PID|||1\rOBR|||1|a\rNTE|||" + fill("\\"),
		"groups":      "MSH|^~\\&|PAS|RX1|||||SIU^S12|1|P|2.4\rSCH||1\r" + strings.Repeat("PID|||1\r", 45_000) + strings.Repeat("RGS|1\r", 45_000),
	} {
		for d := range Deliveries([]byte(msg), trust) {
			size := 0
			for _, r := range d.Content {
				size += len(r.Raw())
			}
			if size > 3*MaxMessage || d.Rejected != nil && d.Rejected.Type == fhir.Exception {
				t.Errorf("%s: became %d bytes, %v", what, size, d.Rejected)
			}
			t.Logf("%s: %d bytes, %v", what, size, d.Rejected)
		}
	}
}

func withCharset(name, value string) string {
	return "MSH|^~\\&|PAS|RX1|||||ADT^A28|1|P|2.4||||||" + name + "\rNTE|1||" + value
}

func TestCharacterSetsAreReadAsDeclared(t *testing.T) {
	latin, _ := charmap.ISO8859_1.NewEncoder().String("Zoë Müller")
	nine, _ := charmap.ISO8859_15.NewEncoder().String("Zoë €")
	win, _ := charmap.Windows1252.NewEncoder().String("Zoë “€”")
	for _, c := range []struct {
		what, data, configured, want string
		warns                        bool
	}{
		{"8859/1", withCharset("8859/1", latin), "", "Zoë Müller", false},
		{"8859/1 with Windows quotes in it", withCharset("8859/1", win), "", "Zoë “€”", false},
		{"8859/15", withCharset("8859/15", nine), "", "Zoë €", false},
		{"WINDOWS-1252", withCharset("WINDOWS-1252", win), "", "Zoë “€”", false},
		{"ASCII", withCharset("ASCII", "Zoe"), "", "Zoe", false},
		{"nothing declared, Windows-1252 configured", withCharset("", win), "WINDOWS-1252", "Zoë “€”", false},
		{"ISO-8859-15, as some write it", withCharset("ISO-8859-15", nine), "", "Zoë €", false},
		{"UNICODE UTF-8", withCharset("UNICODE UTF-8", "Zoë 中"), "", "Zoë 中", false},
		{"UNICODE, which is UTF-8 in ITK feeds", withCharset("UNICODE", "Zoë 中"), "", "Zoë 中", false},
		{"ASCII that is not", withCharset("ASCII", latin), "", "Zoë Müller", true},
		{"UTF-8 that is not", withCharset("UNICODE UTF-8", latin), "", "Zoë Müller", true},
		{"nothing declared, UTF-8", withCharset("", "Zoë"), "", "Zoë", false},
		{"nothing declared, Latin", withCharset("", latin), "", "Zoë Müller", false},
		{"nothing declared, configured", withCharset("", nine), "8859/15", "Zoë €", false},
		{"a repetition: the first counts", withCharset("8859/1~UNICODE", latin), "", "Zoë Müller", false},
		{"a byte order mark", "\ufeff" + withCharset("UNICODE UTF-8", "Zoë"), "", "Zoë", false},
		{"a hexadecimal escape in the set", withCharset("8859/1", `Zo\XEB\`), "", "Zoë", false},
	} {
		m, err := Parse([]byte(c.data), ParseOptions{Charset: c.configured})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if got := m.First("NTE").Field(3).Words(); got != c.want {
			t.Errorf("%s: read %q, want %q", c.what, got, c.want)
		}
		if (len(m.Issues) > 0) != c.warns {
			t.Errorf("%s: issues are %v", c.what, m.Issues)
		}
	}
	for _, e := range []unicode.Endianness{unicode.LittleEndian, unicode.BigEndian} {
		for _, bom := range []unicode.BOMPolicy{unicode.UseBOM, unicode.IgnoreBOM} {
			wide, _ := unicode.UTF16(e, bom).NewEncoder().String(withCharset("UNICODE UTF-16", "Zoë 中"))
			m := mustParse(t, wide)
			if got := m.First("NTE").Field(3).Words(); got != "Zoë 中" {
				t.Errorf("UTF-16 %v %v: read %q", e, bom, got)
			}
		}
	}
	if _, err := Parse([]byte(withCharset("KLINGON", latin)), ParseOptions{}); fhir.IssueOf(err) == nil || fhir.IssueOf(err).Expression != "MSH-18" {
		t.Errorf("an unknown character set: %v", err)
	}
	mustParse(t, withCharset("KLINGON", "plain ASCII is plain in any of them"))
}

func TestNoValueCanEndAFieldSegmentOrFrame(t *testing.T) {
	evil := []string{"a|b", "x\rPID|2||666", "y\nMSH|^~\\&|", "\x0b\x1c\r", "^~&\\", `""`, `\F\`, "\x00\x01\x7f", "a\\", "\u0085é中"}
	var e Encoder
	e.Segment("MSH", Fields{3: evil[0], 4: evil[1]})
	for _, v := range evil {
		e.Segment("NTE", Fields{1: v, 2: Comp(v, Sub(v, v)), 3: Rep(v, Comp(v, v))})
	}
	out := e.Bytes()
	if bytes.ContainsAny(out, "\x0b\x1c\n\x00") {
		t.Errorf("control characters got through: %q", out)
	}
	m := mustParse(t, string(out))
	if got := len(m.Segments()); got != 1+len(evil) {
		t.Fatalf("%d segments, want %d", got, 1+len(evil))
	}
	for i, v := range evil {
		s := m.Segments()[1+i]
		reps := slices.Collect(s.Field(3).Reps())
		for place, got := range map[string]string{"1": s.Field(1).Text(), "2.1": s.Field(2).Comp(1).Text(), "2.2.1": s.Field(2).Comp(2).Sub(1).Text(), "2.2.2": s.Field(2).Comp(2).Sub(2).Text(),
			"3[1]": reps[0].Text(), "3[2].2": reps[1].Comp(2).Text()} {
			if got != v {
				t.Errorf("NTE-%s came back as %q, want %q", place, got, v)
			}
		}
		if s.Field(1).Null() {
			t.Errorf("%q as text came back as the order to delete", v)
		}
	}
	var n Encoder
	n.Segment("MSH", Fields{})
	n.Segment("PID", Fields{13: Null})
	if m := mustParse(t, string(n.Bytes())); !m.First("PID").Field(13).Null() {
		t.Error("Null did not come back")
	}
}

func TestSplitFindsMessagesHoweverTheyAreKept(t *testing.T) {
	one, two := "MSH|^~\\&|A\rPID|1", "MSH|^~\\&|B\rPID|2"
	for what, data := range map[string]string{
		"one after the other":    one + "\r" + two + "\r",
		"with blank lines":       one + "\n\n\n" + two + "\n",
		"in MLLP frames":         "\x0b" + one + "\r\x1c\r\x0b" + two + "\r\x1c\r",
		"in a batch":             "FHS|^~\\&|X\rBHS|^~\\&|X\r" + one + "\r" + two + "\rBTS|2\rFTS|1\r",
		"with a byte order mark": "\ufeff" + one + "\r\n" + two,
	} {
		var got []string
		for m := range Split([]byte(data)) {
			got = append(got, strings.ReplaceAll(string(m), "\r\n", "\r"))
		}
		if !slices.Equal(got, []string{one, two}) {
			t.Errorf("%s: got %q", what, got)
		}
	}
	var got []string
	for m := range Split([]byte("Dear colleague,\n" + one + "\r" + two)) {
		got = append(got, string(m))
	}
	if !slices.Equal(got, []string{"Dear colleague,", one, two}) {
		t.Errorf("loose text is passed over: %q", got)
	}
	for range Split([]byte(" \r\n\n")) {
		t.Error("a blank file holds no message")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("MSH|^~\\&|PAS|RX1|||20260302||ADT^A01|1|P|2.4||||||8859/1\rPID|1||T1^^^RX1&x~2||Hart^R\\T\\S^\"\"\rOBX|1|TX|a||x\\.br\\y\\XE9\\\ny"))
	f.Add([]byte("MSH$%*!@$A$B\nZZZ$a%b@c*d!S!"))
	f.Add([]byte("\xff\xfeM\x00S\x00H\x00|\x00^\x00~\x00\\\x00&\x00|\x00"))
	f.Add([]byte("MSH|^|\rPID|~&\\"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data, ParseOptions{MaxSize: 1 << 16})
		if err != nil {
			if i := fhir.IssueOf(err); i == nil || i.Text == "" {
				t.Fatalf("refused without a reason: %v", err)
			}
			return
		}
		again, err := Parse(Encode(m), ParseOptions{})
		if err != nil {
			t.Fatalf("encoded and refused: %v", err)
		}
		if got, want := leaves(again), leaves(m); !slices.Equal(got, want) {
			t.Fatalf("encoded and parsed again:\n got %q\nwant %q", got, want)
		}
	})
}

// Whatever bytes come in whatever character set, they are read as text, or refused at MSH-18; text that came as its set says is the text that was written.
func FuzzCharset(f *testing.F) {
	f.Add([]byte("MSH|^~\\&|A|B|||2026||ADT^A01|1|P|2.4\rPID|||1||M\xfcller"), "8859/1", "WINDOWS-1252")
	f.Add([]byte("MSH|^~\\&|A|B|||2026||ADT^A01|1|P|2.4\rPID|||1||Zo\xc3\xab"), "UNICODE UTF-8", "")
	f.Add([]byte("\xff\xfeM\x00S\x00H\x00|\x00^\x00~\x00\\\x00&\x00"), "UNICODE UTF-16", "8859/15")
	f.Add([]byte("\x00M\x00S\x00H\x00|"), "", "ASCII")
	f.Add([]byte{0xfe, 0xff, 0xd8}, "KLINGON", "8859/9")
	f.Fuzz(func(t *testing.T, body []byte, declared, configured string) {
		if strings.ContainsAny(declared, "|\r\n\x00^~\\&") || len(declared) > 50 {
			return
		}
		for _, data := range [][]byte{body, append([]byte("MSH|^~\\&|A|B|||2026||ADT^A01|1|P|2.4||||||"+declared+"\rPID|||"), body...)} {
			var issues []*fhir.Issue
			text, name, issue := decode(data, configured, &issues)
			switch {
			case issue != nil:
				if issue.Expression != "MSH-18" || issue.Type == fhir.Exception {
					t.Fatalf("refused without its reason: %v", issue)
				}
				continue
			case !utf8.ValidString(text):
				t.Fatalf("read as %s it is no text: %q", name, text)
			case len(text) > 3*len(data)+3:
				t.Fatalf("%d bytes became %d", len(data), len(text))
			}
			if _, known := charsets[name]; !known {
				t.Fatalf("read as %q, which is none", name)
			}
			if utf16Order(data) == nil && isASCII(data) && text != string(data) {
				t.Fatalf("ASCII was changed: %q", text)
			}
			if name == "UTF-8" && utf16Order(data) == nil && text != string(data) {
				t.Fatalf("UTF-8 was changed: %q", text)
			}
			if enc := charsets[name]; enc != encoding.Nop && utf16Order(data) == nil {
				back, err := enc.NewEncoder().Bytes([]byte(text))
				if err == nil && string(back) != string(data) {
					t.Fatalf("%s does not read back: %q", name, text)
				}
			}
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add("a|b", "c^d", `\X0D\`, "")
	f.Add("", `""`, "\r\n", "é")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		for _, s := range []*string{&a, &b, &c, &d} {
			*s = strings.ToValidUTF8(*s, "?")
		}
		var e Encoder
		e.Segment("MSH", Fields{18: "UNICODE UTF-8"})
		e.Segment("NTE", Fields{1: Rep(Comp(Sub(a, b), c), d), 2: "end"})
		m, err := Parse(e.Bytes(), ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s := m.First("NTE")
		reps := slices.Collect(s.Field(1).Reps())
		if len(m.Segments()) != 2 || s.Field(2).Text() != "end" {
			t.Fatalf("the message's shape changed: %q", e.Bytes())
		}
		for i := len(reps); i < 2; i++ {
			reps = append(reps, Value{})
		}
		if reps[0].Comp(1).Sub(1).Text() != a || reps[0].Comp(1).Sub(2).Text() != b || reps[0].Comp(2).Text() != c || reps[1].Text() != d {
			t.Fatalf("%q, %q, %q, %q came back otherwise from %q", a, b, c, d, e.Bytes())
		}
	})
}

// Whatever arrives, a file gives deliveries that keep the contract, and never a panic.
func FuzzDeliveries(f *testing.F) {
	f.Add([]byte("MSH|^~\\&|PAS|RX1|||||ORU^R01|1|P|2.4\rPID|||1\rOBR|||F1|c^d|||2026\rOBX|1|SN|a||>^5^-^6|m|1-2|H|||F\rOBX|2|ED|a||a^b^c^Base64^AAAA"))
	f.Add([]byte("MSH|^~\\&|PAS|RX1|||||ADT^A40|1|P|2.4\rPID|||1^^^A\rMRG|2\rPID|||3\rMRG|4"))
	f.Add([]byte("MSH|^~\\&|PAS|RX1|||||SIU^S12|1|P|2.4\rSCH||A|||||||x|min|^^^20260101\rPID|||1\rRGS|1\rAIS|1||x"))
	f.Add([]byte("MSH|^~\\&|PAS|RX1|||||MDM^T02|1|P|2.4\rPID|||9990000018^^^NHS\rTXA|||||||||||D\rOBX||TX|||x"))
	f.Add([]byte("MSH|^~\\&|PAS|RX1|||||ADT^A01|1|P|2.4\rPID|||1\rPV1||I|W^R^B||||X^Y||||||||||||V1|||||||||||||||||||||||||2026\rNK1|1|A^B\rAL1|1||x\rDG1|1||y\rPR1|1||z"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		for d := range Deliveries(data, trust) {
			if d.Rejected != nil {
				if d.Rejected.Type == fhir.Exception {
					t.Fatalf("a map failed on %q", d.Raw)
				}
				continue
			}
			checkDelivery(t, "fuzz", d)
		}
		o := trust.withDefaults()
		for raw := range Split(data) {
			m, err := Parse(raw, ParseOptions{Charset: o.Charset})
			if err != nil {
				continue
			}
			plain, err := Map(m, raw, o)
			if err != nil {
				continue
			}
			followed := *m
			followed.told = new(told)
			seen, made, err := trace(&followed, raw, o)
			if err != nil || !bytes.Equal(Golden(made), Golden(plain)) {
				t.Fatalf("that it is noted what is read changes what is made: %v", err)
			}
			for _, l := range seen.unreadParts(nil) {
				if len(l.Place) < 5 {
					t.Fatalf("%q is told of at %q", l.Text, l.Place)
				}
			}
		}
	})
}
