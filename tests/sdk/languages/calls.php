<?php
// Calls by PHP's curl, which twilio/sdk is made on, without a word about where: the environment and php.ini lead here.
// Prints the SIDs of the calls made, newest first, by following pages of two.

[$sid, $token, $to] = [getenv('TWILIO_ACCOUNT_SID'), getenv('TWILIO_AUTH_TOKEN'), getenv('PHONE')];

function ask(string $method, string $path, array $form = []): array
{
    global $sid, $token;
    $curl = curl_init("https://api.twilio.com$path");
    curl_setopt_array($curl, [
        CURLOPT_USERPWD => "$sid:$token",
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_TIMEOUT => 20,
        CURLOPT_CUSTOMREQUEST => $method,
    ] + ($method === 'POST' ? [CURLOPT_POSTFIELDS => http_build_query($form)] : []));
    $body = curl_exec($curl);
    if ($body === false) {
        fwrite(STDERR, curl_error($curl) . "\n");
        exit(1);
    }
    return [curl_getinfo($curl, CURLINFO_RESPONSE_CODE), json_decode($body, true)];
}

$account = "/2010-04-01/Accounts/$sid";
for ($count = 0; $count < 3; $count++) {
    [$status, $call] = ask('POST', "$account/Calls.json", [
        'To' => $to, 'From' => '+15550001111', 'Twiml' => '<Response><Hangup/></Response>',
    ]);
    if ($status !== 201) {
        exit("$status\n");
    }
}
for ($page = "$account/Calls.json?PageSize=2&To=" . rawurlencode($to); $page !== null; $page = $list['next_page_uri']) {
    [, $list] = ask('GET', $page);
    foreach ($list['calls'] as $call) {
        echo $call['sid'], "\n";
    }
}
[$status, $error] = ask('GET', "$account/Calls/CA" . str_repeat('0', 32) . '.json');
exit($status === 404 && $error['code'] === 20404 ? 0 : 1);
