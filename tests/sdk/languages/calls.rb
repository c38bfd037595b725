# Calls by Faraday, which twilio-ruby is made on, without a word about where: the environment leads here.
# Prints the SIDs of the calls made, newest first, by following pages of two.

require "faraday"
require "json"

SID, TOKEN, TO = ENV.values_at("TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "PHONE")

def ask(method, path, form = nil)
  http = Faraday.new("https://api.twilio.com", request: { timeout: 20 }) do |made|
    made.request :url_encoded
    made.adapter Faraday.default_adapter
  end
  http.headers["Authorization"] = "Basic " + ["#{SID}:#{TOKEN}"].pack("m0")
  answer = http.run_request(method, path, form, nil)
  [answer.status, JSON.parse(answer.body)]
end

account = "/2010-04-01/Accounts/#{SID}"
3.times do
  call = { "To" => TO, "From" => "+15550001111", "Twiml" => "<Response><Hangup/></Response>" }
  status, = ask(:post, "#{account}/Calls.json", call)
  abort status.to_s unless status == 201
end
page = "#{account}/Calls.json?" + URI.encode_www_form("PageSize" => 2, "To" => TO)
while page
  _, list = ask(:get, page)
  list["calls"].each { |call| puts call["sid"] }
  page = list["next_page_uri"]
end
status, error = ask(:get, "#{account}/Calls/CA#{"0" * 32}.json")
exit(status == 404 && error["code"] == 20404)
