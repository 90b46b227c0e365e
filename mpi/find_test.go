package mpi

import (
	"testing"

	"tombolo/fhir"
)

// A description means who is described so, and nobody else; too thin a one means nobody.
func TestADescriptionIsOfWhoIsDescribedSo(t *testing.T) {
	q := Patient{Name: fhir.HumanName{Family: "O’Brien-Żak", Given: []string{"Zoë", "Ann"}}, BirthDate: "1948-03-12", Gender: "female",
		Address: &fhir.Address{Line: []string{"1 Ferry Lane", "Quayside"}, City: "Severnmouth", PostalCode: "GL99 1AA"}}
	for _, d := range []Description{{Family: "OBRIEN ZAK"}, {Family: "o'br*"}, {Given: "zoe"}, {Given: "Ann"}, {BirthDate: "1948-03"}, {Line: "1 ferry*"}, {City: "SEVERNMOUTH"}, {Postcode: "gl991aa"}, {Gender: "female"}, {}} {
		if !d.of(q) {
			t.Errorf("%+v is not found", d)
		}
	}
	for _, d := range []Description{{Family: "OBrien"}, {Given: "Zo"}, {BirthDate: "1948-03-13"}, {Line: "Ferry"}, {City: "Severn"}, {Postcode: "GL99 1AB"}, {Gender: "male"}} {
		if d.of(q) {
			t.Errorf("%+v is found, and is somebody else", d)
		}
	}
	for _, d := range []Description{{}, {Family: "*"}, {Family: "Taylor"}, {BirthDate: "1948-03-12"}, {Given: "Zoe", Postcode: "GL99 1AA"}, {Family: "*", BirthDate: "1948-03-12"}, {Given: "Zoe", BirthDate: "1948"}} {
		if d.enough() {
			t.Errorf("%+v says enough of anybody", d)
		}
	}
	if !(Description{Family: "Taylor", BirthDate: "1948-03-12"}).enough() {
		t.Error("a surname and a birth date say too little")
	}
}
