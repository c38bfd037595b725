-- Whether other accounts may call an application has its own field, which was read from the provider's field before.

UPDATE resources SET details = replace(details, '"other":{', '"open":true,"other":{')
    WHERE kind = 'application' AND details LIKE '%"public_application_connect_enabled":true%';
