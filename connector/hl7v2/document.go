package hl7v2

import (
	"encoding/base64"
	"encoding/hex"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tombolo/dataset"
	"tombolo/fhir"
)

// MDM: documents. TXA describes one, OBX holds it: as lines of text, or whole as encapsulated data. HL7 v2.4 §9.6

func (x *mapper) documents(segs []Segment) *fhir.Issue {
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
	sc := &scope{own: txa, segs: segs}
	f := fhir.M{"subject": x.subject(), "date": x.documentDate(txa), "custodian": x.organisation(),
		"identifier": []fhir.Identifier{{System: x.systemOf(x.documentNamespace(txa)), Value: number}}}
	x.fill("DocumentReference", f, sc, "TXA")
	x.documentStatus(f, sc, txa)
	x.relate(f, txa)
	binaryMeta := tagged(dataset.Documents)
	if m, ok := x.meaningOf("confidentiality", txa.Field(18)); ok {
		label := []fhir.Coding{{System: m.system, Code: m.code}}
		f["meta"], binaryMeta["security"] = fhir.M{"security": label}, label // the words as closely kept as the entry that points at them
	}
	if visit := x.visitID(first(segs, "PV1")); visit != "" {
		f["context"] = fhir.M{"encounter": []fhir.Reference{{Reference: "Encounter/" + visit}}}
	}
	x.documentContent(f, sc, segs, made, binaryMeta)
	x.addFrom(sc, "DocumentReference", made, f)
	return nil
}

// documentContent puts the document itself into f. An event that only tells of a document leaves what is here of it.
func (x *mapper) documentContent(f fhir.M, sc *scope, segs []Segment, made string, binaryMeta fhir.M) {
	title, forms := x.content(segs)
	if said, ok := f["description"].(string); ok {
		title = said
	}
	if title == "" {
		kind, _ := f["type"].(fhir.CodeableConcept)
		title = kind.Words()
		sc.assumed = append(sc.assumed, "description")
	}
	f["description"] = title
	var content []fhir.M
	for i, a := range forms {
		attachment := fhir.M{"contentType": a["contentType"], "title": title, "creation": f["date"], "url": a["url"]}
		if a["url"] == nil {
			binary := made
			if i > 0 {
				binary = id(made + "." + strconv.Itoa(i+1))
			}
			x.add("Binary", binary, fhir.M{"contentType": a["contentType"], "data": a["data"], "securityContext": x.subject(), "meta": binaryMeta})
			attachment["url"] = "Binary/" + binary
		}
		content = append(content, fhir.M{"attachment": attachment})
	}
	if len(content) == 0 {
		if slices.Contains([]string{"T02", "T04", "T06", "T08", "T10"}, x.event) {
			x.note(fhir.Incomplete, "OBX-5", "the message describes a document and does not hold it")
		}
		content = []fhir.M{{"attachment": fhir.M{"title": title}}}
		sc.assumed = append(sc.assumed, "content")
	}
	for _, c := range content {
		prune(c["attachment"].(fhir.M))
	}
	f["content"] = content
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

// documentStatus: TXA-17 says how far it has come, TXA-19 whether it still counts, and the event may say more. HL7 tables 0271 and 0273
func (x *mapper) documentStatus(f fhir.M, sc *scope, txa Segment) {
	status := x.translate("document-availability", txa.Field(19))
	if status == "" {
		status = "current"
		sc.assumed = append(sc.assumed, "status")
	}
	docStatus := x.translate("document-completion", txa.Field(17))
	switch x.h.status {
	case "":
	case "entered-in-error":
		status, docStatus, sc.assumed = x.h.status, x.h.status, nil
	default:
		docStatus = x.h.status
	}
	f["status"], f["docStatus"] = status, docStatus
}

// relate ties an addendum or a replacement to the document in TXA-13. What was replaced counts no more.
func (x *mapper) relate(f fhir.M, txa Segment) {
	parent := peek(txa.Field(13), 1)
	if parent == "" {
		return
	}
	old := id(parent)
	code := ""
	switch x.h.does {
	case "addendum":
		code = "appends"
	case "replace":
		code = "replaces"
		if str(txa.Field(12), 1) == parent {
			str(txa.Field(13), 1)
			return // the same number again: a version, not another document
		}
		f := fhir.M{"status": "superseded", "subject": x.subject(), "content": []fhir.M{{"attachment": fhir.M{"title": "A document that has been replaced"}}}}
		x.addFrom(&scope{assumed: []string{"content"}}, "DocumentReference", old, f)
	default:
		return
	}
	str(txa.Field(13), 1)
	f["relatesTo"] = []fhir.M{{"code": code, "target": fhir.Reference{Reference: "DocumentReference/" + old}}}
}

// content is the document itself. Text lines of all OBX are one text; each encapsulated document is one attachment.
func (x *mapper) content(segs []Segment) (title string, forms []fhir.M) {
	var lines []string
	for _, s := range segs {
		if s.Name() != "OBX" {
			continue
		}
		kind := str(s.Field(2), 0)
		if kind == "HD" || kind == "EI" { // what something else is called, such as the study that a report is of: no words of the document
			continue
		}
		if title == "" {
			title = x.wordsOf(s.Field(3))
		}
		switch kind {
		case "ED", "RP":
			if a := x.attachment(s); a != nil {
				forms = append(forms, a)
			}
		default:
			lines = append(lines, x.textOf(obx{Segment: s}, s.Field(5))...)
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
		return x.pointer(s)
	}
	encoding, data := strings.ToUpper(str(v, 4)), v.Comp(5).Words()
	var content []byte
	var err error
	switch encoding {
	case "BASE64": // as it came: a document's megabytes are not written anew to say the same
		if data = pad(data); data != "" && isBase64(data) {
			return fhir.M{"contentType": contentType(str(v, 2), str(v, 3)), "data": data}
		}
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

// isBase64 reports whether a text is base64 of something, without keeping what it is.
func isBase64(s string) bool {
	_, err := io.Copy(io.Discard, base64.NewDecoder(base64.StdEncoding, strings.NewReader(s)))
	return err == nil
}

// pointer reads an RP: pointer^application^type^subtype. A web address is passed on, and nothing is fetched; what is known to the sender's own
// systems only is told of. HL7 v2.4 §2.9.36
func (x *mapper) pointer(s Segment) fhir.M {
	v := s.Field(5)
	where, app := str(v, 1), str(v, 2)
	for _, u := range []string{where, app + where} {
		if l := strings.ToLower(u); strings.HasPrefix(l, "https://") || strings.HasPrefix(l, "http://") {
			if strings.ContainsAny(u, " <>\"") {
				break
			}
			return fhir.M{"contentType": contentType(str(v, 3), str(v, 4)), "url": u}
		}
	}
	x.note(fhir.NotSupported, s.Place(5), "a document kept elsewhere is not fetched; send it in the message (ED)")
	return nil
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
