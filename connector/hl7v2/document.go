package hl7v2

import (
	"encoding/base64"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// MDM: documents. TXA describes one, OBX holds it: as lines of text, or whole as encapsulated data. HL7 v2.4 §9.6

func (x *mapper) mdm(segs []Segment) *fhir.Issue {
	if issue := x.who(segs); issue != nil {
		return issue
	}
	txa := first(segs, "TXA")
	if !txa.Exists() {
		return fhir.Errorf(fhir.Required, "a document message needs TXA, which describes the document").At("TXA")
	}
	number := str(txa.Field(12), 1)
	if number == "" {
		number = str(txa.Field(16), 1) // the file's name
	}
	if number == "" {
		_, _, control := x.m.Type()
		number = "M-" + control
		x.note(fhir.Required, "TXA-12", "the document has no number, so that a later version cannot be told to be of this one")
	}
	made := id(number)
	f := fhir.M{"subject": x.subject(), "date": x.documentDate(txa), "custodian": x.organisation(),
		"identifier": []fhir.Identifier{{System: x.systemOf(x.documentNamespace(txa)), Value: number}}}
	f["status"], f["docStatus"] = x.documentStatus(txa)
	kind, ok := x.coded(txa.Field(2), v2Table+"0270")
	if ok {
		f["type"] = kind
	}
	f["author"] = x.authors(txa)
	x.relate(f, txa)
	binaryMeta := tagged(dataset.Documents)
	if code := strings.ToUpper(str(txa.Field(18), 0)); code == "R" || code == "V" { // HL7 table 0272
		f["securityLabel"] = []fhir.CodeableConcept{fhir.Code(fhir.SystemConfidentiality, code, map[string]string{"R": "restricted", "V": "very restricted"}[code])}
		label := []fhir.Coding{{System: fhir.SystemConfidentiality, Code: code}}
		f["meta"], binaryMeta["security"] = fhir.M{"security": label}, label // the words as closely kept as the entry that points at them
	}
	if visit := x.visitID(first(segs, "PV1"), segs); visit != "" {
		f["context"] = fhir.M{"encounter": []fhir.Reference{{Reference: "Encounter/" + visit}}}
	}
	title, forms := x.content(segs)
	if title == "" {
		title = kind.Words()
	}
	f["description"] = title
	var content []fhir.M
	for i, a := range forms {
		binary := made
		if i > 0 {
			binary = id(made + "." + strconv.Itoa(i+1))
		}
		x.add("Binary", binary, fhir.M{"contentType": a["contentType"], "data": a["data"], "securityContext": x.subject(), "meta": binaryMeta})
		content = append(content, fhir.M{"attachment": fhir.M{"contentType": a["contentType"], "url": "Binary/" + binary, "title": title, "creation": f["date"]}})
	}
	if len(content) == 0 {
		x.note(fhir.Incomplete, "OBX-5", "the message describes a document and does not hold it")
		content = []fhir.M{{"attachment": fhir.M{"title": title}}}
	}
	for _, c := range content {
		prune(c["attachment"].(fhir.M))
	}
	f["content"] = content
	x.add("DocumentReference", made, f)
	return nil
}

func (x *mapper) documentNamespace(txa Segment) string {
	if ns := authority(txa.Field(12).Comp(2)); ns != "" {
		return ns
	}
	if u := str(txa.Field(12), 3); u != "" {
		return u
	}
	return x.o.Authority
}

// documentDate is an instant: of the document's origin, else of what it tells of, else of its writing down.
func (x *mapper) documentDate(txa Segment) string {
	for _, n := range [...]int{6, 4, 7} {
		if t, precision, ok := x.parseTime(txa.Field(n), txa.Place(n)); ok && precision >= 8 {
			return formatTime(t, 14)
		}
	}
	return ""
}

// documentStatus: TXA-17 says how far it has come, TXA-19 whether it still counts. HL7 tables 0271 and 0273
func (x *mapper) documentStatus(txa Segment) (status, docStatus string) {
	status = "current"
	switch strings.ToUpper(str(txa.Field(19), 0)) {
	case "CA":
		status = "entered-in-error"
	case "OB":
		status = "superseded"
	}
	switch strings.ToUpper(str(txa.Field(17), 0)) {
	case "AU", "LA":
		docStatus = "final"
	case "DI", "DO", "IN", "IP", "PA":
		docStatus = "preliminary"
	}
	switch x.event {
	case "T08":
		docStatus = "amended"
	case "T11":
		status, docStatus = "entered-in-error", "entered-in-error"
	}
	return status, docStatus
}

func (x *mapper) authors(txa Segment) []fhir.Reference {
	var out []fhir.Reference
	for _, n := range [...]int{9, 5} {
		for rep := range txa.Field(n).Reps() {
			if r, ok := x.practitioner(rep); ok && len(out) == 0 {
				out = append(out, r)
			}
		}
	}
	return out
}

// relate ties an addendum (T06) or a replacement (T10) to the document in TXA-13.
func (x *mapper) relate(f fhir.M, txa Segment) {
	parent := str(txa.Field(13), 1)
	if parent == "" {
		return
	}
	code := ""
	switch x.event {
	case "T06":
		code = "appends"
	case "T10":
		code = "replaces"
	default:
		return
	}
	f["relatesTo"] = []fhir.M{{"code": code, "target": fhir.Reference{Reference: "DocumentReference/" + id(parent)}}}
}

// content is the document itself. Text lines of all OBX are one text; each encapsulated document is one attachment.
func (x *mapper) content(segs []Segment) (title string, forms []fhir.M) {
	var lines []string
	for _, s := range segs {
		if s.Name() != "OBX" {
			continue
		}
		if t := x.concept(s.Field(3)).Words(); title == "" {
			title = t
		}
		switch str(s.Field(2), 0) {
		case "ED", "RP":
			if a := x.attachment(s); a != nil {
				forms = append(forms, a)
			}
		default:
			lines = append(lines, x.textOf(obx{Segment: s})...)
		}
	}
	if t := text(strings.Join(lines, "\n")); t != "" {
		forms = append([]fhir.M{{"contentType": "text/plain; charset=utf-8", "data": base64.StdEncoding.EncodeToString([]byte(t))}}, forms...)
	}
	return title, forms
}

var mime = regexp.MustCompile(`^[a-z0-9][a-z0-9.+-]{0,60}/[a-z0-9][a-z0-9.+-]{0,60}$`)

// attachment reads an ED: source^type^subtype^encoding^data. What lies elsewhere (RP) is not fetched. HL7 v2.4 §2.9.15
func (x *mapper) attachment(s Segment) fhir.M {
	v := s.Field(5)
	if str(s.Field(2), 0) == "RP" {
		x.note(fhir.NotSupported, s.Place(5), "a document kept elsewhere is not fetched; send it in the message (ED)")
		return nil
	}
	encoding, data := strings.ToUpper(str(v, 4)), v.Comp(5).Words()
	var content []byte
	var err error
	switch encoding {
	case "BASE64":
		content, err = base64.StdEncoding.DecodeString(pad(data))
	case "HEX":
		content, err = hex.DecodeString(strings.Join(strings.Fields(data), ""))
	case "A", "":
		content = []byte(data)
	default:
		x.note(fhir.NotSupported, s.Place(5), "the document's encoding is not A, Hex or Base64; it was kept in the raw message only")
		return nil
	}
	if err != nil || len(content) == 0 {
		x.note(fhir.ValueError, s.Place(5), "the document is empty or cannot be decoded as it says; it was kept in the raw message only")
		return nil
	}
	return fhir.M{"contentType": contentType(str(v, 2), str(v, 3)), "data": base64.StdEncoding.EncodeToString(content)}
}

// pad takes out white space, and puts back the padding that some senders strip.
func pad(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == ' ' || r == '\n' || r == '\r' || r == '\t' {
			return -1
		}
		return r
	}, s)
	s = strings.TrimRight(s, "=")
	return s + strings.Repeat("=", (4-len(s)%4)%4)
}

// contentType is the media type of HL7 tables 0191 and 0291, which senders write in many ways. What is not known is bytes, so that no viewer runs it.
func contentType(kind, sub string) string {
	kind, sub = strings.ToLower(kind), strings.ToLower(sub)
	switch {
	case mime.MatchString(sub):
		return sub
	case mime.MatchString(kind):
		return kind
	case kind == "pdf" || sub == "pdf" || sub == "x-pdf":
		return "application/pdf"
	case sub == "rtf":
		return "text/rtf"
	case sub == "jpg" || sub == "jpeg":
		return "image/jpeg"
	case sub == "txt" || sub == "plain" || kind == "text" && sub == "":
		return "text/plain"
	}
	switch kind {
	case "ap":
		kind = "application"
	case "im":
		kind = "image"
	case "tx", "ft":
		kind = "text"
	}
	if mime.MatchString(kind + "/" + sub) {
		return kind + "/" + sub
	}
	return "application/octet-stream"
}
