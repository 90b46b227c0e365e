package cast

import (
	"time"

	d "tombolo/dataset"
	"tombolo/fhir"
)

const sct = fhir.SystemSNOMED

// day gives the date n days before (or, negative, after) today, so that the demo's record is always recent.
func day(today time.Time, n int) string { return today.AddDate(0, 0, -n).Format("2006-01-02") }

// at gives a time of day on such a date, with the offset London has then.
func at(today time.Time, n int, clock string) string {
	t, _ := time.ParseInLocation("2006-01-02 15:04", day(today, n)+" "+clock, fhir.London)
	return t.Format("2006-01-02T15:04:05-07:00")
}

// Dozen is the named cast, with dates reckoned from today. The first is the main person, who has a record everywhere.
func Dozen(today time.Time) []Person {
	return []Person{
		margaret(today), george(today), twin(today, "aisha"), twin(today, "anisa"), chloe(today), daniel(today),
		laura(today), baby(today), marek(today), harold(today), fiona(today), sam(today), leo(today), priya(today),
	}
}

// Main is the key of the person with records in all places.
const Main = "margaret"

func penicillin(held ...string) Item {
	return Item{Heading: d.Allergies, System: sct, Code: "91936005", Display: "Allergy to penicillin", Text: "Widespread urticarial rash",
		Date: "1987-06-02", Status: "active", Level: "high", By: "Dr Helen Marsh", Role: "General practitioner", Held: held}
}

func margaret(t time.Time) Person {
	gp, all := []string{GP1}, []string{GP1, Acute, Mental}
	return Person{
		Key: "margaret", Shows: "records in all places; an allergy that three sources repeat; a dose on which two disagree",
		NHS: NHSNumber("999000010"), NHSStatus: "01", Prefix: "Mrs", Given: []string{"Margaret", "Anne"}, Family: "Taylor", Preferred: "Peggy",
		Born: "1948-03-12", Sex: "female", Address: []string{"14 Ferry Lane"}, City: "Severnmouth", Postcode: "GL99 1AB", Phone: "01632 960101",
		Ethnicity: "A", Practice: "M85001", Known: []string{GP1, Acute, Mental, Community, Council, Ambulance, Wye},
		Items: []Item{
			penicillin(all...),
			{Heading: d.Allergies, System: sct, Code: "300916003", Display: "Allergy to latex", Text: "Contact dermatitis", Date: "2011-09-14", Status: "active", Level: "low", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.Problems, System: sct, Code: "44054006", Display: "Type 2 diabetes mellitus", Date: "2006-05-18", Status: "active", By: "Dr Helen Marsh", Held: []string{GP1, Acute}},
			{Heading: d.Problems, System: sct, Code: "13645005", Display: "Chronic obstructive pulmonary disease", Date: "2013-11-04", Status: "active", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.Problems, System: sct, Code: "35489007", Display: "Depressive disorder", Date: "2019-02-20", Status: "active", By: "Dr Anil Rao", Held: []string{GP1, Mental}},
			{Heading: d.Problems, System: sct, Code: "38341003", Display: "Hypertensive disorder", Date: "2009-01-30", Status: "active", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.Problems, System: sct, Code: "195967001", Display: "Asthma", Date: "1994-04-11", End: "2013-11-04", Status: "resolved", Text: "Superseded by diagnosis of COPD", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.Immunisations, System: sct, Code: "822851000000102", Display: "Seasonal influenza vaccination", Date: day(t, 40), Status: "completed", Text: "Batch FLU2291, left deltoid", By: "Sr Joan Price", Held: gp},
			{Heading: d.Immunisations, System: sct, Code: "12866006", Display: "Pneumococcal vaccination", Date: "2013-10-08", Status: "completed", By: "Sr Joan Price", Held: gp},
			{Heading: d.Observations, System: sct, Code: "75367002", Display: "Blood pressure", Value: "142/84", Unit: "mm[Hg]", Date: day(t, 40), Status: "final", By: "Sr Joan Price", Held: gp},
			{Heading: d.Observations, System: sct, Code: "27113001", Display: "Body weight", Value: "71.4", Unit: "kg", Date: day(t, 40), Status: "final", By: "Sr Joan Price", Held: []string{GP1, Community}},
			{Heading: d.Observations, System: sct, Code: "1104051000000101", Display: "NEWS2 total score", Value: "5", Unit: "{score}", Date: at(t, 21, "03:52"), Status: "final", By: "Paramedic Tom Blake", Held: []string{Ambulance}},
			{Heading: d.SocialContext, System: sct, Code: "8517006", Display: "Ex-smoker", Text: "20 pack years, stopped 2013", Date: "2013-11-04", Status: "final", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.FamilyHistory, System: sct, Code: "430679000", Display: "Family history of diabetes mellitus type 2", Text: "Mother", Date: "2006-05-18", Status: "final", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.Referrals, System: sct, Code: "183583007", Display: "Refer to mental health worker", Text: "Low mood since bereavement, PHQ-9 17", Date: day(t, 210), Status: "completed", By: "Dr Helen Marsh", Held: gp},
			{Heading: d.Procedures, System: fhir.SystemOPCS4, Code: "W37.1", Display: "Primary total prosthetic replacement of hip joint using cement", Date: day(t, 19), Status: "completed", By: "Mr Owen Hale", Held: []string{Acute}},
			{Heading: d.Devices, System: sct, Code: "304120007", Display: "Total hip replacement prosthesis", Text: "Right hip, cemented", Date: day(t, 19), Status: "active", By: "Mr Owen Hale", Held: []string{Community}},
			{Heading: d.CarePlans, System: sct, Code: "734163000", Display: "Care plan", Text: "Community mental health care plan: weekly visit, review of sertraline, crisis line 0800 000 000", Date: day(t, 120), Status: "active", By: "Ruth Ellery", Role: "Care coordinator", Held: []string{Mental}},
			{Heading: d.CarePlans, System: sct, Code: "736253002", Display: "Mental health crisis plan", Text: "If low and not eating, daughter Susan to be called first; home treatment team before admission", Date: day(t, 110), Status: "active", By: "Ruth Ellery", Held: []string{Mental}},
			{Heading: d.CarePlans, System: sct, Code: "734163000", Display: "Rehabilitation care plan", Text: "Walk 20 m with frame by week 4; stairs by week 6", Date: day(t, 10), Status: "active", By: "Paul Whitcombe", Role: "Physiotherapist", Held: []string{Community}},
			{Heading: d.RiskAssessments, System: sct, Code: "225338004", Display: "Risk assessment", Text: "Self-harm: low. Self-neglect: moderate. Falls: high.", Level: "moderate", Date: day(t, 110), Status: "final", By: "Ruth Ellery", Held: []string{Mental}},
			{Heading: d.Legal, System: sct, Code: "850281000000108", Display: "Detained under Mental Health Act section 2 (ended)", Text: "Section 2, discharged by responsible clinician", Date: day(t, 205), End: day(t, 190), Status: "inactive", By: "Dr Anil Rao", Held: []string{Mental}},
			{Heading: d.Legal, System: sct, Code: "816361000000101", Display: "Has appointed person with personal welfare lasting power of attorney", Text: "Susan Taylor, registered with the Office of the Public Guardian", Date: "2022-08-01", Status: "active", By: "Severn County Council", Held: []string{Council}},
			{Heading: d.Alerts, System: sct, Code: "129839007", Display: "At risk for falls", Text: "Two falls in three months", Date: day(t, 110), Status: "active", Level: "high", By: "Ruth Ellery", Held: []string{Mental, Community}},
			{Heading: d.Alerts, System: sct, Code: "397540003", Display: "Visual impairment", Text: "Large print letters", Date: "2020-03-01", Status: "active", By: "Severn County Council", Held: []string{Council}},
			{Heading: d.ProfessionalContacts, Display: "Care coordinator", Text: "01632 960140", By: "Ruth Ellery", Role: "Care coordinator", Date: day(t, 120), Status: "active", Held: []string{Mental}},
			{Heading: d.ProfessionalContacts, Display: "Social worker", Text: "01632 960150", By: "Dawn Hibbert", Role: "Social worker", Date: day(t, 60), Status: "active", Held: []string{Council}},
			{Heading: d.SocialCare, Display: "Home care, 2 visits a day", Text: "Help with washing, dressing and breakfast; 30 minutes morning and evening", Date: day(t, 8), Status: "active", By: "Bridge Home Care Ltd", Held: []string{Council}},
			{Heading: d.SocialCare, Display: "Pendant alarm", Text: "Linked to Severn Careline", Date: day(t, 60), Status: "active", By: "Severn Careline", Held: []string{Council}},
			{Heading: d.Safeguarding, Display: "Adult safeguarding enquiry (closed)", Text: "Concern about missed medicines; no further action", Date: day(t, 300), End: day(t, 280), Status: "inactive", By: "Dawn Hibbert", Held: []string{Council}},
			{Heading: d.AboutMe, Display: "What matters to me", Text: "Please call me Peggy. I like the radio on and my glasses within reach. I get frightened at night.", Date: day(t, 60), Status: "active", Held: []string{Council}},
			{Heading: d.EndOfLife, System: sct, Code: "1382601000000107", Display: "ReSPECT form", Text: "For hospital admission and ward-based treatment; CPR not recommended", Date: day(t, 12), Status: "active", By: "Dr Helen Marsh", Held: []string{Community}},
			{Heading: d.RemoteMonitoring, System: sct, Code: "103228002", Display: "Oxygen saturation at home", Value: "93", Unit: "%", Date: day(t, 2), Status: "final", By: "Severn virtual ward", Held: []string{Community}},
		},
		Medications: []Medication{
			{Code: "319775004", Display: "Aspirin 75mg tablets", Dose: "One to be taken each day", Quantity: "28", Unit: "tablet", Type: "repeat", Start: "2009-02-01", Status: "active", Issues: []string{day(t, 84), day(t, 56), day(t, 28)}, By: "Dr Helen Marsh", Held: gp},
			{Code: "109081006", Display: "Metformin 500mg tablets", Dose: "One to be taken twice a day with meals", Quantity: "56", Unit: "tablet", Type: "repeat", Start: "2006-06-01", Status: "active", Issues: []string{day(t, 56), day(t, 28)}, By: "Dr Helen Marsh", Held: gp},
			{Code: "318857002", Display: "Ramipril 5mg capsules", Dose: "One to be taken each day", Quantity: "28", Unit: "capsule", Type: "repeat", Start: "2015-03-10", Status: "active", Issues: []string{day(t, 28)}, By: "Dr Helen Marsh", Held: gp},
			{Code: "318857002", Display: "Ramipril 5mg capsules", Dose: "TWO to be taken each day (increased on the ward)", Quantity: "56", Unit: "capsule", Type: "discharge", Start: day(t, 12), Status: "active", By: "Mr Owen Hale", Held: []string{Mental}},
			{Code: "321988005", Display: "Sertraline 50mg tablets", Dose: "One to be taken in the morning", Quantity: "28", Unit: "tablet", Type: "repeat", Start: day(t, 200), Status: "active", By: "Dr Anil Rao", Held: []string{GP1, Mental}},
			{Code: "323509004", Display: "Amoxicillin 500mg capsules", Dose: "One three times a day", Quantity: "21", Unit: "capsule", Type: "acute", Start: "1987-06-01", End: "1987-06-02", Status: "stopped", By: "Dr Helen Marsh", For: "Stopped: allergic reaction", Held: gp},
		},
		Encounters: []Encounter{
			{ID: "C-4401", Class: "AMB", Type: "Consultation", Code: "185317003", Start: at(t, 40, "10:20"), End: at(t, 40, "10:35"), Reason: "Diabetic review", Where: "Hilltop Surgery", By: "Sr Joan Price", Role: "Practice nurse", Note: "Feet checked, no ulcer. Flu vaccine given.", Held: gp},
			{ID: "C-4380", Class: "AMB", Type: "Consultation", Code: "185317003", Start: at(t, 210, "09:10"), End: at(t, 210, "09:25"), Reason: "Low mood", Where: "Hilltop Surgery", By: "Dr Helen Marsh", Role: "General practitioner", Note: "Husband died in spring. PHQ-9 17. Referred.", Held: gp},
			{ID: "INC-77120", Class: "EMER", Type: "999 incident", Code: "1066341000000103", Start: at(t, 21, "03:40"), End: at(t, 21, "04:55"), Reason: "Fall at home, right hip pain", Where: "14 Ferry Lane", By: "Tom Blake", Role: "Paramedic", Note: "Found on bathroom floor. Right leg shortened and rotated. Morphine 5 mg IV. Conveyed to Severn Acute.", Held: []string{Ambulance}},
			{ID: "111-20931", Class: "VR", Type: "111 call", Code: "1066331000000109", Start: at(t, 33, "22:14"), End: at(t, 33, "22:31"), Reason: "Cough and breathlessness", Where: "Telephone", By: "Kim Doyle", Role: "Clinical adviser", Note: "Advised GP within 24 hours.", Held: []string{Ambulance}},
			{ID: "V900817", Class: "IMP", Type: "Admission, trauma and orthopaedics", Code: "32485007", Start: at(t, 21, "05:10"), End: at(t, 12, "14:30"), Reason: "Fracture of neck of femur", Where: "Ward 7B", By: "Mr Owen Hale", Role: "Consultant orthopaedic surgeon", Diagnosis: []Item{{System: fhir.SystemICD10, Code: "S72.0", Display: "Fracture of neck of femur"}}, Held: []string{Acute}},
			{ID: "WYE-3310", Class: "EMER", Type: "Emergency department attendance", Start: at(t, 500, "15:20"), End: at(t, 500, "18:05"), Reason: "Sprained ankle while on holiday", Where: "Emergency Department", By: "Dr Cai Bowen", Role: "Emergency physician", Held: []string{Wye}},
			{ID: "MH-E-12", Class: "IMP", Type: "Inpatient stay, older adults", Start: at(t, 205, "16:00"), End: at(t, 180, "11:00"), Reason: "Severe depressive episode", Where: "Larch Ward", By: "Dr Anil Rao", Role: "Consultant psychiatrist", Held: []string{Mental}},
			{ID: "MH-E-40", Class: "HH", Type: "Home visit", Start: at(t, 15, "14:00"), End: at(t, 15, "14:50"), Reason: "Care plan review", Where: "Home", By: "Ruth Ellery", Role: "Care coordinator", Held: []string{Mental}},
			{ID: "CC-2207", Class: "HH", Type: "Physiotherapy contact", Start: at(t, 9, "11:00"), End: at(t, 9, "11:45"), Reason: "Rehabilitation after hip replacement", Where: "Home", By: "Paul Whitcombe", Role: "Physiotherapist", Held: []string{Community}},
			{ID: "CC-2231", Class: "HH", Type: "District nurse contact", Start: at(t, 6, "09:30"), End: at(t, 6, "09:50"), Reason: "Wound check", Where: "Home", By: "Mary Osborne", Role: "District nurse", Note: "Wound clean and dry", Held: []string{Community}},
		},
		Appointments: []Appointment{
			{ID: "A55012", Type: "Fracture clinic", Start: at(t, -20, "10:40"), End: at(t, -20, "11:00"), Status: "booked", Where: "Outpatients 3", With: "Mr Owen Hale", Role: "Consultant orthopaedic surgeon", Reason: "Six-week check", Held: []string{Acute}},
			{ID: "CA-310", Type: "Physiotherapy", Start: at(t, -3, "11:00"), End: at(t, -3, "11:45"), Status: "booked", Where: "Home", With: "Paul Whitcombe", Role: "Physiotherapist", Held: []string{Community}},
		},
		Reports: []Report{
			{ID: "P884301", Code: "26604007", Display: "Full blood count", System: sct, Date: at(t, 20, "06:15"), Status: "final", By: "Severn Pathology", Results: []Result{
				{"1022431000000105", "Haemoglobin estimation", "108", "g/L", "115", "165", "L"}, {"1022541000000102", "Total white cell count", "9.8", "10*9/L", "4.0", "11.0", ""}, {"1022651000000100", "Platelet count", "231", "10*9/L", "150", "450", ""}}, Held: []string{Acute}},
			{ID: "P884302", Code: "1017401000000104", Display: "Urea and electrolytes", System: sct, Date: at(t, 20, "06:15"), Status: "final", By: "Severn Pathology", Results: []Result{
				{"1000651000000109", "Serum sodium", "138", "mmol/L", "133", "146", ""}, {"1000661000000107", "Serum potassium", "4.4", "mmol/L", "3.5", "5.3", ""}, {"1000731000000107", "Serum creatinine", "112", "umol/L", "45", "84", "H"}}, Held: []string{Acute}},
			{ID: "G-1190", Code: "43396009", Display: "Haemoglobin A1c", System: sct, Date: day(t, 45), Status: "final", By: "Severn Pathology", Results: []Result{{"999791000000106", "HbA1c (IFCC)", "58", "mmol/mol", "", "48", "H"}}, Held: gp},
			{ID: "X20117", Imaging: true, Code: "168731009", Display: "Plain X-ray of hip", System: sct, Date: at(t, 21, "05:40"), Status: "final", By: "Dr Lena Fox", Text: "Displaced intracapsular fracture of the right neck of femur. No other fracture seen.", Held: []string{Acute}},
		},
		Documents: []Document{
			{ID: "D77001", Type: "Discharge summary", Code: "373942005", Title: "Discharge summary, trauma and orthopaedics", Date: at(t, 12, "15:02"), By: "Dr Imogen Clarke", MIME: "text/plain", Text: "Admitted after a fall with a fractured right neck of femur. Cemented hemiarthroplasty. Ramipril increased to 10 mg. Follow up in fracture clinic.", Held: []string{Acute}},
			{ID: "SC-D-9", Type: "Care and support plan", Code: "2181441000000107", Title: "Care and support plan", Date: day(t, 8), By: "Dawn Hibbert", MIME: "application/pdf", Text: "Care and support plan for Mrs Taylor. Two visits a day. Key safe by the back door.", Held: []string{Council}},
			{ID: "SC-D-7", Type: "Assessment letter", Code: "820241000000103", Title: "Occupational therapy assessment", Date: day(t, 55), By: "Lewis Grant", MIME: "text/plain", Text: "Assessed at home. Bath board and raised toilet seat supplied.", Held: []string{Council}},
		},
		Relations: []Relation{{Name: "Susan Taylor", Relationship: "Daughter", Phone: "07700 900112", NextOfKin: true, Held: []string{Acute, Council}}},
	}
}
