// Calls by Java's own HTTPS, which goes by the system properties that twilio-java's client uses: they lead here.
// Prints the SIDs of the calls made, newest first, by following pages of two.

import java.io.InputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Calls {
    static final String SID = System.getenv("TWILIO_ACCOUNT_SID"), TOKEN = System.getenv("TWILIO_AUTH_TOKEN");
    static int status;

    static String ask(String method, String path, String form) throws Exception {
        HttpURLConnection connection = (HttpURLConnection) new URL("https://api.twilio.com" + path).openConnection();
        connection.setRequestMethod(method);
        String login = Base64.getEncoder().encodeToString((SID + ":" + TOKEN).getBytes(StandardCharsets.UTF_8));
        connection.setRequestProperty("Authorization", "Basic " + login);
        if (form != null) {
            connection.setDoOutput(true);
            connection.getOutputStream().write(form.getBytes(StandardCharsets.UTF_8));
        }
        status = connection.getResponseCode();
        try (InputStream body = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
            return new String(body.readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    static String encoded(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8);
    }

    public static void main(String[] arguments) throws Exception {
        String to = encoded(System.getenv("PHONE")), account = "/2010-04-01/Accounts/" + SID;
        String call = "From=%2B15550001111&To=" + to + "&Twiml=" + encoded("<Response><Hangup/></Response>");
        for (int count = 0; count < 3; count++) {
            ask("POST", account + "/Calls.json", call);
            if (status != 201) System.exit(1);
        }
        Pattern sid = Pattern.compile("\"sid\":\"(CA[0-9a-f]{32})\""), next = Pattern.compile("\"next_page_uri\":\"([^\"]+)\"");
        for (String page = account + "/Calls.json?PageSize=2&To=" + to; page != null; ) {
            String list = ask("GET", page, null);
            for (Matcher found = sid.matcher(list); found.find(); ) System.out.println(found.group(1));
            Matcher further = next.matcher(list);
            page = further.find() ? further.group(1) : null;
        }
        String error = ask("GET", account + "/Calls/CA" + "0".repeat(32) + ".json", null);
        System.exit(status == 404 && error.contains("20404") ? 0 : 1);
    }
}
