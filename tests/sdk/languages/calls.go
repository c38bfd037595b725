// Calls by Go's default transport, which twilio-go uses, without a word about where: the environment leads here.
// Prints the SIDs of the calls made, newest first, by following pages of two.
package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
)

type list struct {
	Calls []struct{ Sid string }
	Next  *string `json:"next_page_uri"`
	Code  int
}

func ask(method, path string, form url.Values) (int, list) {
	request, err := http.NewRequest(method, "https://api.twilio.com"+path, strings.NewReader(form.Encode()))
	check(err)
	request.SetBasicAuth(os.Getenv("TWILIO_ACCOUNT_SID"), os.Getenv("TWILIO_AUTH_TOKEN"))
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(request)
	check(err)
	defer answer.Body.Close()
	var body list
	check(json.NewDecoder(answer.Body).Decode(&body))
	return answer.StatusCode, body
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	to := os.Getenv("PHONE")
	account := "/2010-04-01/Accounts/" + os.Getenv("TWILIO_ACCOUNT_SID")
	call := url.Values{"To": {to}, "From": {"+15550001111"}, "Twiml": {"<Response><Hangup/></Response>"}}
	for count := 0; count < 3; count++ {
		if status, _ := ask("POST", account+"/Calls.json", call); status != 201 {
			os.Exit(1)
		}
	}
	page := account + "/Calls.json?" + url.Values{"PageSize": {"2"}, "To": {to}}.Encode()
	for next := &page; next != nil; {
		_, found := ask("GET", *next, nil)
		for _, one := range found.Calls {
			fmt.Println(one.Sid)
		}
		next = found.Next
	}
	if status, found := ask("GET", account+"/Calls/CA"+strings.Repeat("0", 32)+".json", nil); status != 404 || found.Code != 20404 {
		os.Exit(1)
	}
}
